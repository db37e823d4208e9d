"""The HTML report: one page, nothing but itself, whatever the names in it are."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_support import HOSTILE, applied, events, leak, matrix, place, program, unknown

from gradguard.core.findings import Finding, Severity, TraceStep
from gradguard.core.flow import FlowMatrix, Reach
from gradguard.core.layout import visible
from gradguard.core.policy import Policy
from gradguard.core.timeline import Timeline
from gradguard.report import html, save
from gradguard.report.drawing import drawing

POLICY = Policy.parse({"critic_loss": "critic", "generator_loss": "generator"})
VOID = {"meta", "input", "br", "img"}


class Reader(HTMLParser):
    """Reads a page: its tags, its attributes, its text, and whether tags are closed in order."""

    def __init__(self, page: str) -> None:
        """Read a whole page."""
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take a tag in."""
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take a tag in that closes itself."""
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        """Every end belongs to the tag opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep the text outside of style and script."""
        if self.open and self.open[-1] not in {"style", "script"}:
            self.texts.append(data)

    @property
    def text(self) -> str:
        """All text, as a person reads it."""
        return " ".join(" ".join(self.texts).split())


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write the program into the current directory and return its path."""
    monkeypatch.chdir(tmp_path)
    return program(tmp_path)


def timeline(filename: str, turns: int = 2) -> Timeline:
    """Make a timeline of some turns of the loop."""
    told = Timeline(POLICY, ("critic", "generator"))
    for event in turns * events(filename):
        told.add(event)
    return told


def test_a_page_has_everything_that_was_seen(train: str) -> None:
    """Matrix, findings with source and drawing, timeline, the unknown with reasons, figures."""
    page = html(
        [leak(train), applied(train), unknown(train)],
        matrix=matrix(),
        timeline=timeline(train),
        figures={"steps": 12_000, "seconds": 1.2345},
        unknown=[("what `compiled` does", "it is a compiled region")],
        title="nightly",
    )
    read = Reader(page)
    for told in (
        "1 error", "1 warning", "1 info", "spilled on the way",
        "critic_loss reaches generator , which it does not train",
        "score_fake = critic(fake)", "enters critic , and with it critic_loss", "seen 20 times",
        "medium confidence", "cleared: critic", "generator_opt steps generator, train.py:11",
        "critic_loss deposits into critic (meant), generator (leaked), train.py:9",
        "a custom Function lies on the way", "it is a compiled region", "12,000", "1.23",
        "A loss reaches a model it does not train, over a dead end.",
    ):  # fmt: skip
        assert told in read.text, told
    assert read.tags.count("article") == 3
    assert ("aria-label", "leaked, finding 1") in read.attributes
    assert ("href", "#f1") in read.attributes


def test_each_anchor_leads_somewhere(train: str) -> None:
    """Every link within the page has its target, and there is no other link."""
    page = html([leak(train), unknown(train)], matrix=matrix(), timeline=timeline(train))
    read = Reader(page)
    ids = [value for name, value in read.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    links = {value for name, value in read.attributes if name == "href"}
    assert links
    assert links <= {f"#{one}" for one in ids}


def test_a_page_asks_for_nothing_from_outside(train: str) -> None:
    """No address of any host, and a policy that forbids loading anything."""
    page = html([leak(train)], matrix=matrix(), timeline=timeline(train))
    assert re.findall(r"(?:https?:)?//[\w.]+\.\w+", page) == []
    assert "default-src 'none'" in page
    assert Reader(page).tags.count("script") == 1


def test_nothing_found_is_said(train: str) -> None:
    """An empty report is a report."""
    assert "Nothing was found." in Reader(html([])).text
    assert "No loss has run backward yet." in Reader(html([], matrix=FlowMatrix((), (), {}))).text
    assert "Nothing was found." in Reader(html([], timeline=timeline(train, 0))).text


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(name: str, tmp_path: Path) -> None:
    """Wherever a name, a path or a line of source is shown, it adds no tag and no attribute."""
    file = program(tmp_path, "plain.py", f"x = model({name!r}).backward()\n")
    harmless = Reader(_everything("name", file)).tags
    read = Reader(_everything(name, file))
    assert read.tags == harmless
    assert not [attribute for attribute, _ in read.attributes if attribute.startswith("on")]
    assert {value for attribute, value in read.attributes if attribute == "src"} == set()
    assert visible(name) in "".join(read.texts)
    assert "603729" not in read.text


def _everything(name: str, file: str) -> str:
    finding = Finding(
        "GG101", name, Severity.WARNING, f"`{name}` {name}", place(file, 1, 5, 9), name, name,
        (
            TraceStep(place(file, 1), f"`{name}`'s output"),
            TraceStep(place(f"{name}.py", 1), f"`other {name}` is passed"),
            TraceStep(place(file, 1), name),
        ),
        name,
    )  # fmt: skip
    names = (name, f"other {name}")
    flow = FlowMatrix(names, names, {(name, name): Reach.REACHED, (name, names[1]): Reach.UNKNOWN})
    told = Timeline(Policy.parse({name: name}), names)
    for event in events(f"{name}.py"):
        told.add(event)
    return html(
        [finding, replace(finding, code="GG903")],
        matrix=flow,
        timeline=told,
        figures={name: name},
        unknown=[(name, name)],
        title=name,
    )


def test_a_drawing_goes_from_the_loss_through_models_to_the_model(train: str) -> None:
    """Stations stand in the order of the program, arrows go back up."""
    drawn = drawing(leak(train), {"critic", "generator"})
    assert drawn is not None
    assert [(box.kind, box.title, box.row) for box in drawn.boxes] == [
        ("model", "generator", 6), ("passed", "critic", 7), ("loss", "critic_loss", 9),
    ]  # fmt: skip
    assert drawn.kind == "leaked"
    assert [arrow.last for arrow in drawn.arrows] == [False, True]
    assert [arrow.tip for arrow in drawn.arrows] == sorted(
        (arrow.tip for arrow in drawn.arrows), reverse=True
    )
    assert drawn.words == (
        "gradient of critic_loss to critic to generator. In the source: generator output made on "
        "line 6; critic passed through on line 7; critic_loss runs backward on line 9"
    )


def test_a_drawing_of_what_has_no_trace_still_connects_loss_and_model(train: str) -> None:
    """Without either there is nothing to draw."""
    drawn = drawing(applied(train), ())
    assert drawn is not None
    assert [(box.kind, box.title) for box in drawn.boxes] == [
        ("model", "generator"), ("loss", "critic_loss"),
    ]  # fmt: skip
    assert drawing(replace(applied(train), loss=None, model=None), ()) is None


def test_a_starved_model_is_drawn_without_gradient(train: str) -> None:
    """The words say that nothing arrives."""
    found = replace(leak(train), code="GG301", name="starved-model")
    drawn = drawing(found, {"critic", "generator"})
    assert drawn is not None
    assert drawn.kind == "starved"
    assert "critic_loss does not reach" in drawn.words


def test_a_file_that_is_gone_leaves_its_notes(tmp_path: Path) -> None:
    """The trace is told without source."""
    page = html([leak(str(tmp_path / "gone.py"))])
    assert "enters critic , and with it critic_loss" in Reader(page).text


def test_a_thousand_findings_and_a_hundred_models_make_one_page(train: str) -> None:
    """Large runs are shown whole; what cannot be drawn is counted."""
    names = tuple(f"model_{number}" for number in range(100))
    losses = tuple(f"loss_{number}" for number in range(100))
    flow = FlowMatrix(
        losses, names, {(loss, model): Reach.REACHED for loss in losses for model in names[::3]}
    )
    found = [
        replace(leak(train), loss=losses[number % 100], model=names[number % 97])
        for number in range(1000)
    ]
    read = Reader(html(found, matrix=flow))
    assert read.tags.count("article") == 1000
    assert read.tags.count("td") == 100 * 100 + 1


def test_without_jinja_the_error_says_what_to_install() -> None:
    """Only the page needs it; text, JSON, SARIF and annotations do not."""
    script = """
        import sys
        sys.modules["jinja2"] = None
        from gradguard.report import html, render
        for format in ("text", "json", "sarif", "github"):
            render([], format=format)
        try:
            html([])
        except ImportError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "pip install 'gradguard[report]'" in done.stdout


def test_reports_need_neither_torch_nor_libcst() -> None:
    """A lint job and a page made from saved findings come without either."""
    script = """
        import sys
        import gradguard.report
        gradguard.report.html([])
        print({"torch", "libcst"} & set(sys.modules) or "none")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "none\n"


def test_a_report_is_saved_whole_or_not_at_all(tmp_path: Path) -> None:
    """The folder is made, what was there is replaced at once, and nothing else is left behind."""
    path = tmp_path / "a" / "b" / "report.html"
    save(path, "first")
    save(path, "second \udcff")
    assert path.read_text("utf-8") == "second \\udcff"
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(OSError, match="directory"):
        save(tmp_path / "a" / "b", "a folder")
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


@pytest.mark.parametrize("name", HOSTILE)
def test_the_tests_of_a_finding_are_named_beside_it(name: str) -> None:
    """A few at once, many folded away; what a parameter puts into their names is only text."""
    finding = leak("train.py")
    few, many = ([f"test_nets.py::test[{name}-{n}]" for n in range(count)] for count in (2, 40))
    page = html([finding, finding, finding], tests=[few, many, []])
    reader = Reader(page)
    text = "".join(reader.texts)
    assert all(visible(test) in text for test in (*few, *many))
    assert "in 40 tests" in text
    assert reader.tags.count("script") == 1

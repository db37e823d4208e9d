"""Text: one form for a person, fitted to where it is read."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from report_support import HOSTILE, applied, leak, matrix, place, program, unknown
from rich.console import Console

from gradguard.core.findings import Finding, Severity
from gradguard.core.flow import FlowMatrix, Reach, Sign
from gradguard.core.layout import cells, visible
from gradguard.report import render, show

GOLDEN = """\
train.py:7:22: GG101 `critic_loss` reaches `generator`, which it does not train
   6 | fake = generator(z)        `generator`'s output, carries gradient
   7 | score_fake = critic(fake)  enters `critic`, and with it `critic_loss`
     |              ^^^^^^^^^^^^
   9 | critic_loss.backward()     4 of 4 `generator` parameters receive gradient
     = help: `critic(fake.detach())`
     = seen 20 times

train.py:11:9: GG103 `generator_opt` applies gradient of `critic_loss` to `generator`
   11 | generator_opt.step()
      | ^^^^^^^^^^^^^^^^^^^^

                critic  generator  teacher  codebook
critic_loss       ●         ✗         ?        ·
generator_loss    ○         ●         ·        !
other_loss        ◆         0         ·        ·
● meant  ✗ leaked  ? unknown  · no gradient  ○ spilled on the way  ! starved  ◆ reached  0 gradient that is all zero

found 2 findings: 1 error, 1 warning
"""  # noqa: E501  The legend of all signs is one line.

NARROW = """\
train.py:7:22: GG101 `critic_loss`
    reaches `generator`, which it
    does not train
   6 | fake = generator(z)
     |   `generator`'s output,
     |   carries gradient
   7 | score_fake = critic(fake)
     |              ^^^^^^^^^^^^
     |   enters `critic`, and with
     |   it `critic_loss`
   9 | critic_loss.backward()
     |   4 of 4 `generator`
     |   parameters receive gradient
     = help: `critic(fake.detach())`
     = seen 20 times

critic_loss
  ● critic  ✗ generator  ? teacher
  · all others
generator_loss
  ○ critic  ● generator  ! codebook
  · all others
other_loss
  ◆ critic  0 generator
  · all others
● meant  ✗ leaked  ? unknown
· no gradient  ○ spilled on the way
! starved  ◆ reached
0 gradient that is all zero

found 1 finding: 1 warning
"""


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write the program into the current directory and return its path."""
    monkeypatch.chdir(tmp_path)
    return program(tmp_path)


def shown(console: Console, findings: list[Finding], flow: FlowMatrix | None = None) -> str:
    """Show findings on a console that writes into memory."""
    show(findings, matrix=flow, console=console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_text_is_findings_then_the_matrix_then_a_sum(train: str) -> None:
    """The whole of it, as a person reads it in a log."""
    assert render([leak(train), applied(train)], matrix=matrix()) == GOLDEN


def test_nothing_found_is_said(train: str) -> None:
    """Silence would leave open whether anything was looked at."""
    assert render([]) == "no findings\n"
    assert render([leak(train)] * 2).endswith("\nfound 2 findings: 2 warnings\n")


def test_without_a_terminal_the_text_is_not_broken(train: str) -> None:
    """A log or a pipe gets the very text of `render`, whatever width is assumed for it."""
    console = Console(file=io.StringIO(), width=20)
    assert shown(console, [leak(train), applied(train)], matrix()) == GOLDEN


def test_a_narrow_terminal_without_colour_breaks_lines(train: str) -> None:
    """Messages go below their lines and the matrix becomes a list; no colour is needed to read."""
    environment = {"TERM": "xterm-256color", "NO_COLOR": "1"}
    console = Console(file=io.StringIO(), width=36, force_terminal=True, _environ=environment)
    text = shown(console, [leak(train)], matrix())
    assert set(re.findall(r"\x1b\[([\d;]*)m", text)) == {"0", "1", "2"}, "bold and dim only"
    words = re.sub(r"\x1b\[[\d;]*m", "", text)
    assert words == NARROW
    assert max(cells(line) for line in words.splitlines()) <= 36


def test_a_dumb_terminal_gets_no_escapes(train: str) -> None:
    """It is taken to have 80 columns."""
    console = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})
    text = shown(console, [leak(train)], matrix())
    assert "\x1b" not in text
    assert max(cells(line) for line in text.splitlines()) <= 80
    assert text.splitlines()[:7] == GOLDEN.splitlines()[:7]


def test_a_terminal_with_colours_says_the_same_words(train: str) -> None:
    """Take the colours away and what is left is the plain text."""
    environment = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    console = Console(file=io.StringIO(), width=200, force_terminal=True, _environ=environment)
    text = shown(console, [leak(train), applied(train)], matrix())
    assert "\x1b[" in text
    assert re.sub(r"\x1b\[[\d;]*m", "", text) == GOLDEN


def test_each_sign_has_a_twin_in_ascii(train: str) -> None:
    """An encoding without circles must not turn a meaning into a question mark."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    show([leak(train)], matrix=matrix(), console=Console(file=out, width=100))
    out.seek(0)
    text = out.read()
    assert "critic_loss       +         X         ?        -" in text
    assert "generator_loss    o         +         -        !" in text


def test_every_sign_is_one_of_its_kind() -> None:
    """No two meanings share a sign, in either alphabet."""
    assert len({sign.mark for sign in Sign}) == len(Sign) == 8
    assert len({sign.ascii for sign in Sign}) == len(Sign)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_cannot_reach_the_terminal_as_a_command(name: str) -> None:
    """Escapes and changes of direction are shown, everything else is left alone."""
    flow = FlowMatrix((name,), (name,), {(name, name): Reach.REACHED})
    found = Finding("GG101", "n", Severity.ERROR, f"`{name}`", place(f"{name}.py", 1), help=name)
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    text = shown(console, [found], flow)
    assert "\u202e" not in text
    assert "\x1b[2J" not in text
    assert visible(name) in text


def test_carets_stand_under_what_is_meant(tmp_path: Path) -> None:
    """Tabs, wide characters and expressions of several lines move them as they should."""
    source = "if x:\n\ty = model(日本, fake)\n\tz = model(\n\t\tfake,\n\t)\n"
    train = program(tmp_path, "wide.py", source)
    base = replace(leak(train), trace=(), help=None, count=1)

    def marked(where: object) -> list[str]:
        return str(replace(base, place=where)).splitlines()[1:]

    assert marked(place(train, 2, 16, 20)) == [
        "   2 | y = model(日本, fake)",
        "     |                 ^^^^",
    ]
    several = replace(place(train, 3, 6), end_location=place(train, 5, 3).location)
    assert marked(several) == ["   3 | z = model(", "     |     ^^^^^^"]
    assert marked(place(train, 2, 6)) == ["   2 | y = model(日本, fake)", "     |     ^"]
    assert marked(place(train, 2)) == ["   2 | y = model(日本, fake)"]


def test_a_place_beyond_its_line_is_shown_without_carets(train: str) -> None:
    """A file that has changed since is no reason to fail or to point at nothing."""
    assert "^" not in str(replace(leak(train), place=place(train, 7, 300, 310)))
    assert "^" not in str(replace(leak(train), place=place(train, 999, 3, 5), trace=()))


def test_a_long_line_is_cut_around_what_is_marked(tmp_path: Path) -> None:
    """On a narrow terminal the marked part stays in sight, with its carets under it."""
    line = f"loss = {'a + ' * 40}critic(fake){' + b' * 40}"
    train = program(tmp_path, "long.py", line + "\n")
    column = line.index("critic") + 1
    found = replace(leak(train), place=place(train, 1, column, column + 12), trace=())
    console = Console(file=io.StringIO(), width=60, force_terminal=True, color_system=None)
    source, carets = (line for line in shown(console, [found]).splitlines() if " | " in line)
    begin = carets.index("^")
    assert source[begin : begin + 12] == "critic(fake)"
    assert carets.count("^") == 12
    assert source.count("…") == 2
    assert len(source) <= 60


def test_json_is_a_list_of_findings_as_data(train: str) -> None:
    """The keys are those of `to_dict`, in ASCII so that every encoding carries it."""
    found = [leak(train), unknown(train), replace(applied(train), message="日本")]
    text = render(found, format="json")
    assert json.loads(text) == [finding.to_dict() for finding in found]
    assert text.isascii()
    assert json.loads(render([], format="json")) == []


def test_a_format_that_does_not_exist_is_refused() -> None:
    """The error lists those that do."""
    with pytest.raises(ValueError, match="formats are: text, json, sarif, github"):
        render([], format="xml")  # type: ignore[arg-type]

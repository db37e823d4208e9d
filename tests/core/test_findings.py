"""Findings: how they read, what they are as data, and how an error carries them."""

from __future__ import annotations

import copy
import json
import linecache
import pickle
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from gradguard.core.findings import (
    UNKNOWN_PLACE,
    Confidence,
    Finding,
    IsolationError,
    IsolationWarning,
    Location,
    Place,
    Severity,
    TraceStep,
)

TRAIN = {
    41: "    fake = generator(z)",
    44: "        score_fake = critic(fake)",
    46: "    critic_loss.backward()",
    47: "    critic_opt.step()",
}


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a program into the current directory and return its full path."""
    monkeypatch.chdir(tmp_path)
    return written(tmp_path / "train.py", TRAIN)


def written(path: Path, lines: dict[int, str]) -> str:
    """Write some lines of a file where they belong."""
    path.parent.mkdir(parents=True, exist_ok=True)
    last = max(lines)
    path.write_text("\n".join(lines.get(row, "") for row in range(1, last + 1)) + "\n")
    linecache.checkcache(str(path))
    return str(path)


def step(filename: str, row: int, message: str) -> TraceStep:
    """Make a step of a trace."""
    return TraceStep(Place(filename, Location(row, 1)), message)


def leak(filename: str) -> Finding:
    """Make the finding that design and documentation show."""
    return Finding(
        code="GG101",
        name="leaking-loss",
        severity=Severity.WARNING,
        message="`critic_loss` reaches `generator`, which it does not train",
        place=Place(filename, Location(44, 22), Location(44, 34)),
        loss="critic_loss",
        model="generator",
        trace=(
            step(filename, 41, "generator's output, carries gradient"),
            step(filename, 44, "enters critic's loss here"),
            step(filename, 46, "4 of 4 generator parameters receive gradient"),
            step(filename, 47, "trains critic only"),
        ),
        help="`critic(fake.detach())`, or `gradguard.backward(critic_loss, into=critic)`",
    )


def test_a_finding_reads_like_that_of_a_good_compiler(train: str) -> None:
    """Headline with a relative path, source lines with what happens there, and help."""
    assert str(leak(train)) == (
        "train.py:44:22: GG101 `critic_loss` reaches `generator`, which it does not train\n"
        "   41 | fake = generator(z)        generator's output, carries gradient\n"
        "   44 | score_fake = critic(fake)  enters critic's loss here\n"
        "      |              ^^^^^^^^^^^^\n"
        "   46 | critic_loss.backward()     4 of 4 generator parameters receive gradient\n"
        "   47 | critic_opt.step()          trains critic only\n"
        "      = help: `critic(fake.detach())`, or "
        "`gradguard.backward(critic_loss, into=critic)`"
    )


def test_what_was_seen_often_says_so(train: str) -> None:
    """The count is the last line, and only where there is something to count."""
    assert str(replace(leak(train), count=1000)).endswith("\n      = seen 1000 times")
    assert "seen" not in str(leak(train))


def test_a_finding_without_trace_and_help_is_one_line() -> None:
    """Nothing is shown where nothing is known."""
    finding = Finding("GG206", "moved-without-gradient", Severity.WARNING, "text", UNKNOWN_PLACE)
    assert str(finding) == "<unknown>:1:1: GG206 text"


def test_row_numbers_stand_under_each_other(train: str) -> None:
    """Labels of different length are aligned on the right."""
    written(Path(train), {9: "a", 1234: "b"})
    trace = (step(train, 9, "first"), step(train, 1234, "second"))
    lines = str(replace(leak(train), trace=trace, help="h")).splitlines()
    assert lines[1:] == ["      9 | a  first", "   1234 | b  second", "        = help: h"]


def test_a_trace_through_several_files_names_them(train: str, tmp_path: Path) -> None:
    """A row alone would not say where; in one file the headline has said it."""
    library = written(tmp_path / "nets" / "critic.py", {7: "return self.head(x)"})
    trace = (step(library, 7, "critic's output"), step(train, 46, "runs backward"))
    lines = str(replace(leak(train), trace=trace)).splitlines()
    assert lines[1:5] == [
        "   critic.py:7 | return self.head(x)        critic's output",
        "   train.py:44 | score_fake = critic(fake)",
        "               |              ^^^^^^^^^^^^",
        "   train.py:46 | critic_loss.backward()     runs backward",
    ]


def test_a_trace_in_one_other_file_names_it_too(train: str, tmp_path: Path) -> None:
    """If the whole trace is elsewhere than the headline, its rows are not the headline's."""
    library = written(tmp_path / "critic.py", {7: "return x"})
    lines = str(replace(leak(train), trace=(step(library, 7, "m"),))).splitlines()
    assert lines[1] == "   critic.py:7 | return x                   m"


def test_paths_are_relative_only_below_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file elsewhere is shown whole; names that are no files stay what they are."""
    inside, outside = tmp_path / "work" / "src" / "a.py", tmp_path / "b.py"
    written(inside, {1: "x"})
    monkeypatch.chdir(tmp_path / "work")
    shown = [
        str(replace(leak(name), trace=(), help=None)).partition(":")[0]
        for name in (str(inside), str(outside), "<stdin>", "relative.py")
    ]
    assert shown == [str(Path("src/a.py")), str(outside), "<stdin>", "relative.py"]


def test_a_finding_can_be_shown_where_the_current_directory_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rendering happens inside training: it never raises on its own account."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert str(leak("/elsewhere/train.py")).startswith("/elsewhere/train.py:44:22: GG101")


def test_source_that_cannot_be_read_leaves_its_column_empty() -> None:
    """Programs typed at a prompt have rows, and no lines to show."""
    lines = str(replace(leak("<stdin>"), help=None)).splitlines()
    assert lines[1] == "   41 |   generator's output, carries gradient"


def test_a_long_line_does_not_push_the_others_aside(train: str) -> None:
    """The column of source has a limit; what is longer is shown whole all the same."""
    long = f"loss = {' + '.join(['term'] * 12)}"
    written(Path(train), {1: long, 2: "loss.backward()"})
    trace = (step(train, 1, "one"), step(train, 2, "two"))
    lines = str(replace(leak(train), trace=trace)).splitlines()
    assert lines[1] == f"   1 | {long}  one"
    assert lines[2] == f"   2 | {'loss.backward()':<48}  two"


def test_a_finding_as_data_has_the_keys_of_ruff_and_our_own(train: str) -> None:
    """The dictionary is plain JSON, with full paths and every step of the trace."""
    finding = leak(train)
    data = finding.to_dict()
    ruff = {"code", "message", "filename", "location", "end_location", "fix", "url"}
    own = {"name", "severity", "confidence", "loss", "model", "count", "help", "trace"}
    assert set(data) == ruff | own
    assert json.loads(json.dumps(data)) == data
    assert data["code"] == "GG101"
    assert data["name"] == "leaking-loss"
    assert type(data["severity"]) is str
    assert data["severity"] == "warning"
    assert data["filename"] == train
    assert data["location"] == {"row": 44, "column": 22}
    assert data["end_location"] == {"row": 44, "column": 34}
    assert data["trace"][3] == {
        "filename": train,
        "location": {"row": 47, "column": 1},
        "end_location": None,
        "message": "trains critic only",
    }


def test_a_finding_comes_back_from_its_data(train: str) -> None:
    """Nothing of it is lost between processes, nor where parts of it are missing."""
    finding = replace(leak(train), confidence=Confidence.LOW, count=3)
    bare = Finding("GG902", "unreadable-file", Severity.WARNING, "cannot be read", finding.place)
    for one in (finding, bare):
        assert Finding.from_dict(json.loads(json.dumps(one.to_dict()))) == one


def test_a_finding_says_where_it_is() -> None:
    """File, row and column are there for programs, for the finding and for each step."""
    finding = leak("train.py")
    assert (finding.filename, finding.location.row, finding.location.column) == ("train.py", 44, 22)
    assert finding.end_location == Location(44, 34)
    assert finding.trace[0].filename == "train.py"
    assert finding.trace[0].location == Location(41, 1)
    assert finding.severity == "warning"
    assert f"{finding.severity}" == "warning"


def test_a_finding_is_a_value() -> None:
    """Equal if all is equal, hashable, and nothing can be changed behind a reader's back."""
    assert leak("train.py") == leak("train.py")
    assert len({leak("train.py"), leak("train.py"), leak("other.py")}) == 2
    with pytest.raises(FrozenInstanceError):
        leak("train.py").count = 2  # type: ignore[misc]


def test_an_error_shows_all_its_findings_the_most_severe_first(train: str) -> None:
    """The message begins on a line of its own, below the name of the exception."""
    mild = replace(leak(train), severity=Severity.INFO, code="GG102")
    worse = replace(leak(train), severity=Severity.ERROR, code="GG103")
    error = IsolationError([mild, leak(train), worse])
    assert [finding.code for finding in error.findings] == ["GG103", "GG101", "GG102"]
    assert str(error) == f"\n{worse}\n{leak(train)}\n{mild}"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_crosses_process_boundaries_whole(protocol: int) -> None:
    """Pickled and copied, it has the same findings and the same text."""
    error = IsolationError((leak("train.py"), replace(leak("train.py"), count=3)))
    for twin in (
        pickle.loads(pickle.dumps(error, protocol)),  # noqa: S301  Our own bytes.
        copy.copy(error),
        copy.deepcopy(error),
    ):
        assert type(twin) is IsolationError
        assert twin.findings == error.findings
        assert str(twin) == str(error)


def test_a_note_on_an_error_is_carried_along() -> None:
    """What a caller added with `add_note` is part of what the error says."""
    error = IsolationError([leak("train.py")])
    error.add_note("rank 3")
    twin = pickle.loads(pickle.dumps(error))  # noqa: S301  Our own bytes.
    assert twin.__notes__ == ["rank 3"]


def test_warnings_about_isolation_are_user_warnings() -> None:
    """They are shown by default and can be filtered by their own class."""
    assert issubclass(IsolationWarning, UserWarning)
    assert not issubclass(IsolationError, Warning)

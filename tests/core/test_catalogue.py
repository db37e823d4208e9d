"""The catalogue: every code is documented in one place, and its documentation is true."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from gradguard.core import codes
from gradguard.core.codes import HEADINGS, Code, UnknownCode, catalogue, code
from gradguard.core.findings import Finding, IsolationError, Severity
from gradguard.core.verdicts import VERDICTS, Saw

ENTRIES = list(catalogue().values())
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = [entry for entry in ENTRIES if PYTHON_BLOCK.search(entry.section("Example"))]
GUARDED = [entry for entry in PROGRAMS if "import gradguard" in entry.section("Example")]
PLAIN = [entry for entry in PROGRAMS if entry not in GUARDED]


def each(entries: Iterable[Code]) -> pytest.MarkDecorator:
    """Run a test once for each of ``entries``."""
    return pytest.mark.parametrize("entry", entries, ids=lambda entry: entry.code)


def program(entry: Code, heading: str) -> str:
    """Return the one Python program under a heading of the documentation."""
    [block] = PYTHON_BLOCK.findall(entry.section(heading))
    return str(block)


def run(source: str, path: Path) -> tuple[list[Finding], list[Finding]]:
    """Execute a documented program; return what it reports and all that was found."""
    path.write_text(source, encoding="utf-8")
    torch.manual_seed(0)
    scope = {"__name__": "__main__"}
    try:
        exec(compile(source, str(path), "exec"), scope)  # noqa: S102  It is our own documentation.
    except IsolationError as error:
        return list(error.findings), list(error.findings)
    guard, findings = scope.get("guard"), scope.get("findings")
    assert (guard is None) or (findings is None), "a program ends with one of the two"
    if guard is not None:
        return list(guard.findings), list(guard.ledger.findings)
    return list(findings or ()), list(findings or ())


@each(ENTRIES)
def test_a_code_is_documented_under_the_fixed_headings_in_their_order(entry: Code) -> None:
    """The documentation has each heading once, in order, and each has text below it."""
    assert tuple(re.findall(r"^## (.*)$", entry.doc, re.MULTILINE)) == HEADINGS
    assert all(entry.section(heading) for heading in HEADINGS)


@each(ENTRIES)
def test_a_code_is_summed_up_in_one_sentence(entry: Code) -> None:
    """The first paragraph is one sentence that fits on a line."""
    assert entry.summary.endswith(".")
    assert ". " not in entry.summary
    assert len(entry.summary) <= 100


@each(ENTRIES)
def test_a_code_lives_in_the_file_that_bears_its_code_and_name(entry: Code) -> None:
    """Code, readable name and file name agree, and code and name have their fixed shapes."""
    assert re.fullmatch(r"GG\d{3}", entry.code)
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", entry.name)
    stem = f"{entry.code.lower()}_{entry.name.replace('-', '_')}"
    assert entry.module == f"gradguard.core.codes.{stem}"


def test_every_file_of_the_package_is_in_the_catalogue_once() -> None:
    """Walking the package finds all of its files, no code twice, and sorts them by code."""
    assert codes.__file__ is not None
    files = {path.stem for path in Path(codes.__file__).parent.glob("gg*.py")}
    assert {entry.module.rpartition(".")[2] for entry in ENTRIES} == files
    assert len({entry.name for entry in ENTRIES}) == len(files)
    assert list(catalogue()) == sorted(catalogue())


def test_the_catalogue_cannot_be_changed_by_its_readers() -> None:
    """The catalogue is a read-only view, made once."""
    assert catalogue() is catalogue()
    with pytest.raises(TypeError):
        catalogue()["GG999"] = ENTRIES[0]  # type: ignore[index]


@pytest.mark.parametrize("saw", Saw, ids=lambda saw: saw.name.lower())
def test_whatever_the_ledger_concludes_is_in_the_catalogue_at_the_same_severity(saw: Saw) -> None:
    """Verdict table and catalogue agree; starved alone is worse where a policy declared it."""
    verdict = VERDICTS[saw]
    documented = code(verdict.code).severity
    assert verdict.severity is (Severity.ERROR if saw is Saw.STARVED else documented)


def test_only_the_harmless_spill_is_off_by_default() -> None:
    """GG102 describes correct programs, and is the only code that must be asked for."""
    assert [entry.code for entry in ENTRIES if not entry.on_by_default] == ["GG102"]


@pytest.mark.parametrize("wanted", ["GG101", "gg101", "leaking-loss", "Leaking_Loss", " GG101 "])
def test_a_code_is_found_by_code_or_name_however_written(wanted: str) -> None:
    """Case, underscores and blanks around do not matter."""
    assert code(wanted).code == "GG101"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("GG1O3", "unknown code `GG1O3`: did you mean GG103 (applied-leak)?"),
        ("leaking-los", "unknown code `leaking-los`: did you mean GG101 (leaking-loss)?"),
        ("banana", "unknown code `banana`: run `gradguard rule --all` for the list"),
    ],
)
def test_an_unknown_code_is_refused_with_the_nearest_one(wanted: str, message: str) -> None:
    """The error is a KeyError whose text is the sentence itself, not its repr."""
    with pytest.raises(UnknownCode) as caught:
        code(wanted)
    assert isinstance(caught.value, KeyError)
    assert str(caught.value) == message


@each(ENTRIES)
def test_a_code_says_which_halves_report_it(entry: Code) -> None:
    """Each code is reported by at least one half, and halves are named in one order."""
    assert entry.halves in {("runtime",), ("lint",), ("runtime", "lint")}


def test_a_heading_that_does_not_exist_is_a_key_error() -> None:
    """Asking for a section by a wrong heading fails rather than giving an empty text."""
    with pytest.raises(KeyError, match="Examples"):
        code("GG101").section("Examples")


def test_the_documentation_survives_stripped_docstrings() -> None:
    """Under ``python -OO``, which drops docstrings, the text is read from the source."""
    script = "from gradguard.core.codes import code; print(code('GG101').doc, end='')"
    shown = subprocess.run(
        [sys.executable, "-OO", "-c", script], capture_output=True, text=True, check=True
    )
    assert shown.stdout == code("GG101").doc


@each(GUARDED)
def test_the_example_is_reported_under_its_code_and_nothing_else_is(
    entry: Code, tmp_path: Path
) -> None:
    """Running the example reports this code alone, named as documented, in the example's file."""
    path = tmp_path / "example.py"
    reported, found = run(program(entry, "Example"), path)
    concerned = reported if entry.on_by_default else found
    assert {finding.code for finding in concerned} == {entry.code}, reported
    assert all(finding.name == entry.name for finding in concerned)
    assert all(finding.filename == str(path) for finding in concerned)
    assert bool(reported) is entry.on_by_default


@each(GUARDED)
def test_what_to_use_instead_is_not_reported(entry: Code, tmp_path: Path) -> None:
    """Running the corrected program reports nothing at all, nor finds this code unasked."""
    reported, found = run(program(entry, "Use instead"), tmp_path / "instead.py")
    assert reported == []
    assert entry.code not in {finding.code for finding in found}


@each(PLAIN)
@pytest.mark.parametrize("heading", ["Example", "Use instead"])
def test_a_plain_example_runs_in_silence(entry: Code, heading: str, tmp_path: Path) -> None:
    """A mistake that only its consequences show runs without an error, as does its correction."""
    assert run(program(entry, heading), tmp_path / "example.py") == ([], [])

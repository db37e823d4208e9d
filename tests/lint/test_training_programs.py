"""The linter over whole training programs: wrong ones are found, right ones are left in peace."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from gradguard.config import Config
from gradguard.core.codes import catalogue
from gradguard.core.findings import Confidence, Finding, Severity
from gradguard.lint.engine import analyse
from gradguard.lint.project import Project

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
PAIRS = sorted(path.parent for path in HERE.glob("pairs/*/truth.json"))
CLEAN = sorted(HERE.glob("clean/*.py"))

FOUND = frozenset((HERE / "found.txt").read_text("utf-8").split())
"""Pairs whose mistake the linter finds; the others are known misses."""


def reported(path: Path) -> list[Finding]:
    """Return what a user would see of a file by default."""
    project, config = Project([path.parent]), Config(root=path.parent)
    return [
        finding
        for finding in analyse(path, project, config, time.monotonic() + 60).findings
        if finding.severity is not Severity.INFO and finding.confidence.reaches(Confidence.MEDIUM)
    ]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_a_corrected_program_is_left_in_peace(pair: Path) -> None:
    """The smallest fix of a mistake silences the linter."""
    assert reported(pair / "good.py") == []


@pytest.mark.parametrize("path", [*CLEAN, *sorted(EXAMPLES.glob("*.py"))], ids=lambda p: p.stem)
def test_a_correct_program_is_left_in_peace(path: Path) -> None:
    """Programs that look suspicious, and are right, raise nothing."""
    assert reported(path) == []


@pytest.mark.parametrize("name", sorted(FOUND))
def test_a_mistake_is_found_where_it_is_made(name: str) -> None:
    """Some finding lies at the defect, at the backward pass, or at the step that consumes it."""
    pair = HERE / "pairs" / name
    truth = json.loads((pair / "truth.json").read_text("utf-8"))
    rows = {
        row + off
        for row in [*truth["bad_lines"], *truth.get("fix_lines_in_bad", [])]
        for off in (-1, 0, 1)
    }
    assert {finding.location.row for finding in reported(pair / "bad.py")} & rows


def documented(heading: str) -> list[tuple[str, str]]:
    """Return the code blocks under a heading of every code that the linter reports."""
    return [
        (entry.code, block)
        for entry in catalogue().values()
        if "lint" in entry.halves and entry.code < "GG900"
        for block in re.findall(r"```python\n(.*?)```", entry.section(heading), re.DOTALL)
    ]


@pytest.mark.parametrize(("code", "block"), documented("Example"), ids=lambda part: part[:5])
def test_the_example_of_a_code_is_an_example_of_it(code: str, block: str, tmp_path: Path) -> None:
    """What the documentation shows as wrong is what the linter reports."""
    path = tmp_path / "example.py"
    path.write_text(block, "utf-8")
    findings = analyse(path, Project([tmp_path]), Config(root=tmp_path), time.monotonic() + 60)
    assert code in {finding.code for finding in findings.findings}


@pytest.mark.parametrize(("code", "block"), documented("Use instead"), ids=lambda part: part[:5])
def test_what_to_use_instead_is_left_in_peace(code: str, block: str, tmp_path: Path) -> None:
    """What the documentation shows as right raises nothing of that or another code."""
    path = tmp_path / "instead.py"
    path.write_text(block, "utf-8")
    assert reported(path) == [], code

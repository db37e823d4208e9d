"""The option ``--gradguard-report``: what was seen, as a file."""

from __future__ import annotations

import json
import os

import pytest
from plugin_support import Project

from gradguard.core.findings import Finding
from gradguard.core.flow import FlowMatrix, Reach

pytest_plugins = ["pytester"]

LEAKS = """
@pytest.mark.parametrize("leak", [True, False])
def test_step(pair, leak):
    pair.step(leak=leak)
"""


def test_a_report_alone_observes_and_holds_all_that_was_seen(project: Project) -> None:
    """Findings with Ruff's keys and their tests, the matrix of all tests and of each."""
    project.write(LEAKS)
    result = project.run("--gradguard-report=out/seen.json")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["report: *seen.json"])
    told = json.loads((project.path / "out" / "seen.json").read_text("utf-8"))
    (finding,) = told["findings"]
    assert finding["tests"] == ["test_nets.py::test_step[True]"]
    assert Finding.from_dict(finding).code == "GG101"
    whole = FlowMatrix.from_dict(told["flow"])
    assert whole["critic_loss", "self.generator"] is Reach.REACHED
    each = {one["test"]: one for one in told["tests"]}
    assert each["test_nets.py::test_step[True]"]["codes"] == ["GG101"]
    clean = FlowMatrix.from_dict(each["test_nets.py::test_step[False]"]["flow"])
    assert clean["critic_loss", "self.generator"] is Reach.NONE
    assert told["not_judged"] == []


def test_a_page_names_the_tests_of_each_finding(project: Project) -> None:
    """One self-contained file, as every page of ours."""
    project.write(LEAKS)
    project.run("--gradguard=strict", "--gradguard-report=seen.html").assert_outcomes(
        passed=1, failed=1
    )
    page = (project.path / "seen.html").read_text("utf-8")
    assert "in <code>test_nets.py::test_step[True]</code>" in page
    assert "tests that ran backward" in page


def test_a_page_has_the_ledger_of_a_test_with_a_finding(project: Project) -> None:
    """The events of the test that leaks, in their order, and which test it is."""
    project.write(LEAKS.replace("True, False", "False, True"))
    project.run("--gradguard-report=seen.html")
    page = (project.path / "seen.html").read_text("utf-8")
    section = page[page.index('id="timeline"') :]
    assert "events of <code>test_nets.py::test_step[True]</code>" in section
    listed = section[section.index('class="events"') :]
    events = ["critic_loss deposits", "self.generator (leaked)", "self.critic_opt steps"]
    places = [listed.index(event) for event in events]
    assert places == sorted(places)


@pytest.mark.skipif(os.name != "posix", reason="needs a path that no one can write to")
def test_a_report_that_cannot_be_written_fails_the_session(project: Project) -> None:
    """The tests have run and are reported; the session does not end as if all were well."""
    project.write(LEAKS)
    (project.path / "taken").write_text("")
    result = project.run("--gradguard-report=taken/seen.json")
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["the report could not be written: *"])

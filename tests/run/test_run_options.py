"""The options of ``gradguard run``, and what it says to input that it cannot use."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from run_programs import GAN, JOINT, LEAK
from run_support import judged, observed

CLEARED_LATE = (
    GAN
    + """
for number in range(3):
    wrong_loss = D(G(torch.randn(4, 3))).mean()
    od.zero_grad()
    wrong_loss.backward()
    od.step()
"""
)
"""The pair, and then a loss that leaks into the generator: 6 steps come before."""


def test_the_severity_that_fails_is_chosen(tmp_path: Path) -> None:
    """A warning fails only where it is asked to."""
    assert judged(tmp_path, LEAK, "--fail-on", "warning").status == 1
    assert judged(tmp_path, LEAK, "--fail-on", "never").status == 0


def test_findings_and_matrix_are_written_as_sarif_and_as_a_page(tmp_path: Path) -> None:
    """Each form shows the leak with its way; the page needs no network."""
    (tmp_path / "train.py").write_text(LEAK)
    done = observed(tmp_path, "--output-format", "sarif", "--html", "page.html", "train.py")
    [one] = json.loads(done.out)["runs"][0]["results"]
    assert one["ruleId"] == "GG101"
    assert one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "train.py"
    assert one["codeFlows"]
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "GG101" in page
    assert "d_loss" in page


def test_findings_are_written_as_annotations_for_github(tmp_path: Path) -> None:
    """One workflow command for each finding."""
    (tmp_path / "train.py").write_text(LEAK)
    done = observed(tmp_path, "--output-format", "github", "train.py")
    assert "::warning " in done.out
    assert "file=train.py,line=9" in done.out


def test_after_the_steps_that_are_asked_for_nothing_is_observed(tmp_path: Path) -> None:
    """What comes within them is seen, and what comes later is not."""
    assert judged(tmp_path, CLEARED_LATE, "--steps", "6").findings == []
    [found] = judged(tmp_path, CLEARED_LATE, "--steps", "8").findings
    assert found["loss"] == "wrong_loss"


def test_the_turn_of_the_last_step_is_observed_to_its_end(tmp_path: Path) -> None:
    """A joint loss looks misdirected after the first of the two steps that it is meant for."""
    assert judged(tmp_path, JOINT, "--steps", "1").findings == []


def test_reading_every_nth_backward_finds_what_each_backward_does(tmp_path: Path) -> None:
    """A leak that every pass repeats is found by reading some of them."""
    [found] = judged(tmp_path, LEAK, "--every", "2").findings
    assert (found["code"], found["loss"], found["model"]) == ("GG101", "d_loss", "G")


def test_files_are_left_out_or_asked_for_by_pattern(tmp_path: Path) -> None:
    """Patterns are those of .gitignore, relative to where the command runs."""
    assert judged(tmp_path, LEAK, "--exclude", "train.py").findings == []
    assert judged(tmp_path, LEAK, "--include", "other/").findings == []
    assert len(judged(tmp_path, LEAK, "--include", "*.py").findings) == 1


def test_a_comment_silences_the_finding_of_its_line(tmp_path: Path) -> None:
    """The comment that silences the linter silences the live run."""
    comment = "  # gradguard: ignore[GG101] the generator is cleared"
    lines = LEAK.splitlines()
    lines[8] += comment
    assert judged(tmp_path, "\n".join(lines), "--fail-on", "warning").findings == []


def test_codes_that_the_project_ignores_are_not_reported(tmp_path: Path) -> None:
    """The settings of the linter hold for the live run."""
    (tmp_path / "pyproject.toml").write_text('[tool.gradguard]\nignore = ["GG101"]\n')
    assert judged(tmp_path, LEAK).findings == []


REFUSED = {
    "no such script": (["nowhere.py"], "no `nowhere.py`"),
    "no such module": (["-m", "nowhere"], "no module `nowhere`"),
    "no such module in a package": (["-m", "json.nowhere"], "`json.nowhere` is no module"),
    "a script as a module": (["-m", "train.py"], "leave out `-m`"),
    "a folder without a main program": (["empty"], "`empty` has no __main__.py"),
    "no program": ([], "Missing argument 'TARGET'"),
    "no such option": (["--nowhere", "train.py"], "No such option '--nowhere'"),
    "no such format": (["--output-format", "xml", "train.py"], "'xml' is not one of"),
    "no step at all": (["--steps", "0", "train.py"], "0 is not in the range"),
    "no such policy": (["--policy", "none.toml", "train.py"], "none.toml"),
    "a policy that is no TOML": (["--policy", "broken.toml", "train.py"], "broken.toml"),
    "a policy without its table": (["--policy", "bare.toml", "train.py"], "no [policy] table"),
    "a rule with an unknown key": (["--policy", "key.toml", "train.py"], "did you mean `never`?"),
    "a page in no folder": (["--html", "none/page.html", "train.py"], "no folder `none`"),
    "a page that is a folder": (["--html", "empty", "train.py"], "`empty` cannot be written"),
    "a policy into no folder": (["--write-policy", "none/p.toml", "train.py"], "no folder `none`"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line_before_the_program_runs(
    tmp_path: Path, case: str
) -> None:
    """Exit status 2, one line that names what is wrong, and nothing has run."""
    arguments, wording = REFUSED[case]
    (tmp_path / "train.py").write_text("open('ran', 'w')")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.toml").write_text("[policy")
    (tmp_path / "bare.toml").write_text("critic_loss = 'critic'")
    (tmp_path / "key.toml").write_text("[policy]\nloss = { nevr = ['critic'] }")
    done = observed(tmp_path, *arguments)
    assert (done.status, done.out) == (2, "")
    [line] = done.err.splitlines()
    assert line.startswith("error: ")
    assert wording in line
    assert not (tmp_path / "ran").exists()


def test_settings_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    """A misspelt setting is no reason to train for hours and then fail."""
    (tmp_path / "train.py").write_text("open('ran', 'w')")
    (tmp_path / "pyproject.toml").write_text("[tool.gradguard]\npolicies = {}\n")
    done = observed(tmp_path, "train.py")
    assert done.status == 2
    assert "did you mean `policy`?" in done.err
    assert not (tmp_path / "ran").exists()


def test_a_program_without_torch_is_only_run(tmp_path: Path) -> None:
    """Its output is followed by an empty list of findings."""
    (tmp_path / "train.py").write_text("print('ran')")
    done = observed(tmp_path, "--output-format", "json", "train.py")
    assert (done.out, done.status) == ("ran\n\n[]\n", 0)


def test_what_is_asked_for_is_written_also_where_nothing_was_observed(tmp_path: Path) -> None:
    """Whoever waits for the files finds them, with nothing in them."""
    (tmp_path / "train.py").write_text("print('ran')")
    done = observed(tmp_path, "--html", "page.html", "--write-policy", "p.toml", "train.py")
    assert (done.out, done.status) == ("ran\n", 0)
    assert "Nothing was found" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert tomllib.loads((tmp_path / "p.toml").read_text()) == {"policy": {}}

"""`gradguard lint`: what it reports, how it ends, and what it says when it cannot run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from command_support import CLEAN, LEAK, LEAK_ROW, Linter, environment, with_comment

LEAKS = [("GG101", "leak.py", LEAK_ROW)]

HEARS_CONTROL_C = """
import pathlib, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from gradguard.cli import main
pathlib.Path("started").touch()
sys.exit(main())
"""


def test_a_leak_is_reported_with_its_place_and_sum(linter: Linter) -> None:
    """The text names file, row, column, code, loss and model; the status says there is one."""
    linter.write(leak=LEAK, clean=CLEAN)
    done = linter()
    assert done.status == 1
    assert done.said.startswith(
        "leak.py:8:19: GG101 `critic_loss` reaches `generator`, which it does not train\n"
    )
    assert done.said.endswith("\nfound 1 finding: 1 warning\n")
    assert done.complained == ""


def test_nothing_found_is_said_and_is_no_failure(linter: Linter) -> None:
    """A clean file ends with 0 and a line that says so."""
    linter.write(clean=CLEAN)
    assert linter("clean.py").status == 0
    assert linter("clean.py").said == "no findings\n"


def test_the_trace_is_shown_where_it_is_asked_for(linter: Linter) -> None:
    """By default a finding shows the line it is at; `--show-trace` shows the whole path."""
    linter.write(leak=LEAK)
    short, long = linter().said, linter("--show-trace").said
    assert "critic_loss = critic(fake).mean()" in short
    assert "critic_opt.step()" not in short
    for line in ("fake = generator(", "critic_loss.backward()", "critic_opt.step()"):
        assert line in long


def test_findings_can_be_read_by_programs(linter: Linter) -> None:
    """JSON has the keys of Ruff, beside name, severity and the trace with a place for each step."""
    linter.write(leak=LEAK)
    [finding] = linter.json().findings
    assert {"code", "message", "filename", "location", "end_location", "fix", "url"} <= set(finding)
    assert (finding["code"], finding["name"]) == ("GG101", "leaking-loss")
    assert finding["severity"] == "warning"
    assert finding["filename"] == str(linter.folder / "leak.py")
    assert finding["location"] == {"row": 8, "column": 19}
    assert [step["location"]["row"] for step in finding["trace"]] == [7, 8, 10, 11]


@pytest.mark.parametrize("form", ["json", "sarif", "github"])
def test_nothing_found_is_written_in_every_form(form: str, linter: Linter) -> None:
    """Machines get an empty answer of the form they asked for, and nothing else."""
    linter.write(clean=CLEAN)
    done = linter("--output-format", form)
    assert (done.status, done.complained) == (0, "")
    match form:
        case "json":
            assert json.loads(done.said) == []
        case "sarif":
            assert json.loads(done.said)["runs"][0]["results"] == []
        case "github":
            assert done.said == ""


@pytest.mark.parametrize(("form", "mark"), [("sarif", '"GG101"'), ("github", "::warning file=")])
def test_findings_are_written_for_other_services(form: str, mark: str, linter: Linter) -> None:
    """The forms for code scanning and for annotations carry the finding."""
    linter.write(leak=LEAK)
    done = linter("--output-format", form)
    assert done.status == 1
    assert mark in done.said


def test_findings_come_in_the_order_of_files_and_rows_by_any_number_of_processes(
    linter: Linter,
) -> None:
    """What is written does not depend on how the work was shared out."""
    filler = "x = 1  # filler\n" * 30_000
    for number in range(6):
        linter.write(**{f"m{number}": LEAK + filler, f"n{number}": "def f(:\n"})
    one = linter.process("--output-format", "json", "--jobs", "1")
    several = linter.process("--output-format", "json", "--jobs", "3")
    assert (one.status, one.said, one.complained) == (1, several.said, several.complained)
    assert [place[:2] for place in one.places] == [
        *(("GG101", f"m{number}.py") for number in range(6)),
        *(("GG902", f"n{number}.py") for number in range(6)),
    ]


def test_a_file_is_read_from_standard_input(linter: Linter) -> None:
    """`-` lints what is piped in, under the name that it is given."""
    done = linter.process("-", "--output-format", "json", stdin=LEAK.encode())
    assert done.places == [("GG101", "<stdin>", 8)]
    done = linter.process("-", "--stdin-filename", "deep/train.py", stdin=LEAK.encode())
    assert done.status == 1
    assert done.said.startswith(f"{Path('deep') / 'train.py'}:8:19: GG101")
    assert "critic_loss = critic(fake).mean()" in done.said
    assert not (linter.folder / "deep").exists()


def test_standard_input_finds_the_modules_and_settings_of_its_name(linter: Linter) -> None:
    """What is piped in is linted as the file that an editor has open."""
    linter.write(
        nets="from torch.nn import Linear\n\ngenerator, critic = Linear(4, 2), Linear(2, 1)\n"
    )
    lines = LEAK.splitlines()
    lines[2] = "from nets import generator, critic"
    piped = "\n".join(lines).encode()
    linter.settings("per-file-ignores = { 'quiet.py' = ['GG1'] }")
    named = ("-", "--output-format", "json", "--stdin-filename")
    assert linter.process(*named, "train.py", stdin=piped).places == [("GG101", "train.py", 8)]
    assert linter.process(*named, "quiet.py", stdin=piped).places == []


@pytest.mark.parametrize(
    ("arguments", "codes"),
    [
        ([], ["GG101"]),
        (["--select", "GG101"], ["GG101"]),
        (["--select", "leaking-loss,GG204"], ["GG101"]),
        (["--select", "GG1"], ["GG101", "GG102"]),
        (["--select", "ALL", "--ignore", "GG102"], ["GG101"]),
        (["--select", "GG2"], []),
        (["--ignore", "GG1"], []),
        (["--ignore", "GG204", "--ignore", "leaking-loss"], []),
        (["--select", "GG101", "--ignore", "GG1"], ["GG101"]),
    ],
)
def test_codes_are_selected_and_ignored(
    arguments: list[str], codes: list[str], linter: Linter
) -> None:
    """Codes, names and beginnings of codes say what is reported."""
    linter.write(leak=LEAK)
    assert [finding["code"] for finding in linter.json(*arguments).findings] == codes


def test_what_is_only_worth_knowing_does_not_count_as_a_finding(linter: Linter) -> None:
    """Findings of severity info are shown and leave the status at 0."""
    linter.write(clean=CLEAN)
    done = linter.json("--select", "GG102")
    assert [(one["code"], one["severity"]) for one in done.findings] == [("GG102", "info")]
    assert done.status == 0


def test_findings_need_not_fail_the_job(linter: Linter) -> None:
    """`--exit-zero` reports and ends with 0; that nothing could be run is still 2."""
    linter.write(leak=LEAK)
    assert linter("--exit-zero").status == 0
    assert "GG101" in linter("--exit-zero").said
    assert linter("--exit-zero", "nowhere").status == 2


def test_a_code_that_only_a_live_run_shows_is_not_looked_for_in_silence(linter: Linter) -> None:
    """Selecting what the linter cannot report says which command does."""
    linter.write(clean=CLEAN)
    done = linter("--select", "GG403")
    assert done.status == 0
    assert "GG403" in done.complained
    assert "gradguard run" in done.complained


@pytest.mark.parametrize(
    "comment",
    [
        "# gradguard: ignore[GG101] on purpose",
        "# gradguard: ignore[leaking-loss]",
        "# gradguard: ignore",
        "# type: ignore  # gradguard: ignore[GG101]",
    ],
)
def test_a_comment_silences_the_finding_on_its_line(comment: str, linter: Linter) -> None:
    """A finding that its line answers for is not reported, and neither is the comment."""
    linter.write(leak=with_comment(comment))
    assert linter().said == "no findings\n"


def test_a_comment_above_silences_too(linter: Linter) -> None:
    """Alone on a line, the comment covers the statement below."""
    lines = LEAK.splitlines()
    lines.insert(LEAK_ROW - 1, "    # gradguard: ignore[GG101] on purpose")
    linter.write(leak="\n".join(lines))
    assert linter().status == 0


def test_a_comment_for_something_else_silences_nothing_and_is_reported(linter: Linter) -> None:
    """The finding stays, and the comment is found to be of no use."""
    linter.write(leak=with_comment("# gradguard: ignore[GG204]"))
    assert linter.json().places == [*LEAKS, ("GG901", "leak.py", LEAK_ROW)]
    assert linter.json("--select", "GG101").places == LEAKS
    assert linter.json("--ignore", "GG901").places == LEAKS


def test_a_comment_in_a_file_without_anything_to_report_is_of_no_use(linter: Linter) -> None:
    """Files that never come near the subject are looked through for comments as well."""
    linter.write(plain="x = 1  # gradguard: ignore[GG101]\n")
    assert linter.json().places == [("GG901", "plain.py", 1)]


def test_a_finding_in_an_imported_file_obeys_the_comments_there(linter: Linter) -> None:
    """Where a file is linted through another, its own comments count and are of use."""
    body = textwrap.indent("\n".join(LEAK.splitlines()[5:]), "    ")
    head = "import torch\n\n\ndef train(generator, critic, generator_opt, critic_opt):\n"
    linter.write(
        loop=head + body + "\n",
        main="\n".join([*LEAK.splitlines()[:5], "import loop",
             "generator_opt.zero_grad()",
             "loop.train(generator, critic, generator_opt, critic_opt)\n"]),
    )  # fmt: skip
    assert linter.json().places == [("GG101", "loop.py", 7)]
    assert linter.json("main.py").places == [("GG101", "loop.py", 7)]
    silenced = head + body.replace(
        "critic(torch.randn(8, 2)).mean()", "critic(torch.randn(8, 2)).mean()  # gradguard: ignore"
    )
    linter.write(loop=silenced)
    assert linter.json().places == []
    assert linter.json("main.py").places == []


def test_settings_of_the_project_hold(linter: Linter) -> None:
    """Selection, exclusion and what to ignore in which files are read from pyproject.toml."""
    linter.write(leak=LEAK, other=LEAK, skipped=LEAK)
    linter.settings(
        "exclude = ['skipped.py']\nper-file-ignores = { 'other.py' = ['leaking-loss'] }"
    )
    assert linter.json().places == LEAKS
    linter.settings("ignore = ['GG1']")
    assert linter.json().places == []
    assert {place[1] for place in linter.json("--select", "GG101").places} == {
        "leak.py", "other.py", "skipped.py",
    }  # fmt: skip


def test_a_declared_policy_is_held_to(linter: Linter) -> None:
    """What the project declares decides, whatever the order of steps suggests."""
    linter.write(leak=LEAK)
    linter.settings('policy = { critic_loss = ["critic", "generator"] }')
    assert linter.json().places == []


def test_a_broken_setting_stops_the_run_by_name(linter: Linter) -> None:
    """An unknown key is refused with the nearest known one, on one line."""
    linter.write(leak=LEAK)
    linter.settings("selct = ['GG1']")
    done = linter()
    assert (done.status, done.said) == (2, "")
    assert done.complained.startswith("error: ")
    assert "has no setting `selct`; did you mean `select`?" in done.complained
    assert len(done.complained.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere.py"], "error: there is no file or folder `nowhere.py`"),
        (["leak.py", "no/where"], "error: there is no file or folder `no/where`"),
        (["--select", "GG109"], "unknown code `GG109`: did you mean"),
        (["--ignore", "banana"], "unknown code `banana`"),
        (["--jobs", "0"], "0 is not in the range"),
        (["--min-confidence", "sure"], "'sure' is not one of"),
        (["--output-format", "xml"], "'xml' is not one of"),
        (["--exclude", "!"], "is no pattern"),
        (["-", "leak.py"], "`-` is standard input"),
        (["--colour"], "No such option"),
    ],
)
def test_a_call_that_cannot_be_meant_ends_with_2(
    arguments: list[str], complaint: str, linter: Linter
) -> None:
    """Nothing is linted, nothing goes to standard output, and the complaint is a sentence."""
    linter.write(leak=LEAK)
    done = linter(*arguments)
    assert (done.status, done.said) == (2, "")
    assert complaint in done.complained
    assert "Traceback" not in done.complained


def test_a_place_without_python_is_said_to_be_one(linter: Linter) -> None:
    """An empty folder is no error, but is not passed over in silence."""
    done = linter()
    assert (done.status, done.said) == (0, "no findings\n")
    assert done.complained == "warning: no Python files found under the given paths\n"


def test_a_notebook_is_said_to_be_left_out(linter: Linter) -> None:
    """Notebooks are not linted yet, and whoever names one learns it."""
    (linter.folder / "a.ipynb").write_text("{}", encoding="utf-8")
    assert "notebooks are not linted yet" in linter("a.ipynb").complained


def test_what_cannot_be_checked_is_reported_beside_the_rest(linter: Linter) -> None:
    """A broken file is a finding of its own, which no selection hides, and the rest goes on."""
    linter.write(leak=LEAK, broken="import torch\nloss.backward(\n", other="def f(:\n")
    expected = [("GG902", "broken.py", 2), *LEAKS, ("GG902", "other.py", 1)]
    assert linter.json().places == expected
    assert linter.json("--select", "GG101").places == expected
    assert linter.json("--ignore", "GG902").places == LEAKS


def test_the_options_of_earlier_versions_and_of_habit_are_accepted(linter: Linter) -> None:
    """`--no-cache` is understood, though there is nothing to leave out."""
    linter.write(leak=LEAK)
    assert linter.json("--no-cache").places == LEAKS


def test_linting_leaves_nothing_behind_and_runs_nothing(linter: Linter) -> None:
    """The code that is linted is not executed, and no file is written."""
    linter.write(leak=LEAK, rude="import torch, sys\nsys.exit(3)\nloss.backward()\n")
    before = sorted(linter.folder.rglob("*"))
    assert linter.process().status == 1
    assert sorted(linter.folder.rglob("*")) == before


def test_linting_needs_no_torch(linter: Linter, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A lint job gets by without the framework."""
    linter.write(leak=LEAK)
    barred = tmp_path_factory.mktemp("barred")
    (barred / "torch.py").write_text("raise ModuleNotFoundError(name='torch')", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "gradguard", "lint", "leak.py"],
        capture_output=True,
        cwd=linter.folder,
        env=environment() | {"PYTHONPATH": f"{barred}{os.pathsep}{environment()['PYTHONPATH']}"},
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "GG101" in done.stdout


def test_a_reader_that_goes_away_is_no_error(linter: Linter) -> None:
    """Writing into a closed pipe, as `| head` leaves it, is quiet."""
    linter.write(leak=LEAK)
    with subprocess.Popen(
        [sys.executable, "-m", "gradguard", "lint"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=linter.folder,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        complaints = process.stderr.read()
    assert (process.returncode, complaints) == (0, b"")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_control_c_ends_it_at_once_and_without_a_traceback(jobs: str, linter: Linter) -> None:
    """An interrupted run has the status that shells expect, and leaves no process behind."""
    os.mkfifo(linter.folder / "endless.py")
    for number in range(2):
        linter.write(**{f"m{number}": "x = 1  # filler\n" * 30_000})
    with subprocess.Popen(
        [sys.executable, "-c", HEARS_CONTROL_C, "lint", "--jobs", jobs, "endless.py", "."],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=linter.folder,
        env=environment(),
        encoding="utf-8",
    ) as process:
        for _ in range(300):
            if (linter.folder / "started").exists():
                break
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        said, complaints = process.communicate(timeout=60)
    assert (process.returncode, said, complaints) == (130, "", "")

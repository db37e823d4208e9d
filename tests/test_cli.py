"""The command line, run as its users run it: as a process of its own."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import gradguard
import gradguard.reference
from gradguard import cli
from gradguard.core.codes import HEADINGS, catalogue, code
from gradguard.reference import trainer

demo_command = sys.modules["gradguard.commands.demo"]
ROOT = Path(gradguard.__file__).parent.parent
INSTALL = "pip install 'gradguard[torch]'"

# A test run in the background teaches its children to ignore Control-C.
HEARS_CONTROL_C = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("gradguard", run_name="__main__")
"""


def environment(*first: Path) -> dict[str, str]:
    """Return an environment that finds gradguard from any folder, and ``first`` before it."""
    paths = [*map(str, first), str(ROOT), os.environ.get("PYTHONPATH", "")]
    kept = {key: value for key, value in os.environ.items() if key != "FORCE_COLOR"}
    return kept | {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONIOENCODING": "utf-8",
        "OMP_NUM_THREADS": "1",
    }


def invoke(
    *arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "gradguard", *arguments],
        capture_output=True,
        encoding="utf-8",
        cwd=cwd,
        env=env or environment(),
        check=False,
    )


def trace_of(output: str) -> list[tuple[int, str]]:
    """Return row and source line of each step of the trace in ``output``."""
    found = re.findall(r"^ +(\d+) \| (.*?)(?:  .*)?$", output, re.MULTILINE)
    return [(int(row), source) for row, source in found]


@pytest.fixture
def no_torch(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which ``import torch`` fails as if it were not installed."""
    (tmp_path / "torch.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n", encoding="utf-8"
    )
    return environment(tmp_path)


def test_the_version_is_shown_and_is_the_packages_own() -> None:
    """``--version`` writes the program's name and ``gradguard.__version__``."""
    done = invoke("--version")
    assert (done.returncode, done.stdout) == (0, f"gradguard {gradguard.__version__}\n")


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_the_commands(flag: str) -> None:
    """Both spellings of the flag show what can be run."""
    done = invoke(flag)
    assert done.returncode == 0
    assert re.findall(r"^  (\w+) ", done.stdout.partition("Commands:")[2], re.MULTILINE) == [
        "demo",
        "lint",
        "rule",
        "run",
    ]


@pytest.mark.parametrize("wanted", ["GG101", "gg101", "leaking-loss"])
def test_a_code_is_explained_by_its_own_documentation(wanted: str) -> None:
    """Into a pipe goes the Markdown as it stands, below a title with name, code and severity."""
    done = invoke("rule", wanted)
    assert (done.returncode, done.stderr) == (0, "")
    title, _, text = done.stdout.partition("\n\nwarning, on by default\n\n")
    assert title == "# leaking-loss (GG101)"
    assert text == f"{code('GG101').doc}\n"


def test_on_a_terminal_the_documentation_is_rendered() -> None:
    """Where colour is wanted the headings are set off and the Markdown signs are gone."""
    done = invoke("rule", "GG101", env=environment() | {"FORCE_COLOR": "1", "TERM": "xterm"})
    assert done.returncode == 0
    assert "\x1b[" in done.stdout
    assert "## What it does" not in done.stdout
    assert "What it does" in done.stdout


def test_all_codes_are_explained_in_order() -> None:
    """``rule --all`` writes every code once, with all of its headings."""
    done = invoke("rule", "--all")
    assert done.returncode == 0
    titles = re.findall(r"^# \S+ \((GG\d+)\)$", done.stdout, re.MULTILINE)
    assert titles == list(catalogue())
    assert done.stdout.count(f"\n## {HEADINGS[0]}\n") == len(titles)


def test_a_code_can_be_read_by_programs() -> None:
    """JSON for one code is an object that carries the catalogue's entry whole."""
    done = invoke("rule", "spilled-gradient", "--output-format", "json")
    entry = code("GG102")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {
        "code": "GG102",
        "name": "spilled-gradient",
        "severity": "info",
        "on_by_default": False,
        "halves": ["runtime", "lint"],
        "summary": entry.summary,
        "explanation": entry.doc,
    }


def test_all_codes_can_be_read_by_programs() -> None:
    """JSON for all codes is a list in the order of the catalogue."""
    done = invoke("rule", "--all", "--output-format", "json")
    assert done.returncode == 0
    assert [entry["code"] for entry in json.loads(done.stdout)] == list(catalogue())


def test_an_unknown_code_is_one_line_that_suggests_the_nearest() -> None:
    """The message goes to standard error and the status says that nothing could be done."""
    done = invoke("rule", "leaking-los")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: unknown code `leaking-los`: did you mean GG101 (leaking-loss)?\n"
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["rule"], "give one CODE, or --all"),
        (["rule", "GG101", "--all"], "give one CODE, or --all"),
        (["rule", "GG101", "--output-format", "yaml"], "'yaml' is not one of"),
        (["rules"], "No such command 'rules'"),
        (["demo", "--steps", "0"], "0 is not in the range"),
        (["demo", "--steps", "many"], "'many' is not a valid integer"),
    ],
)
def test_a_wrong_call_says_what_is_wrong_and_shows_no_traceback(
    arguments: list[str], complaint: str
) -> None:
    """Usage errors end with status 2 and a sentence on standard error."""
    done = invoke(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    """Writing into a closed pipe, as ``| head`` leaves it, is quiet."""
    with subprocess.Popen(
        [sys.executable, "-m", "gradguard", "rule", "--all"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        complaints = process.stderr.read()
    assert (process.returncode, complaints) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["rule", "--all"], ["lint", "leak.py"]]
)
def test_output_that_cannot_be_written_is_one_line(arguments: list[str], tmp_path: Path) -> None:
    """A full disk is no finding, and no fault to report with a traceback."""
    (tmp_path / "leak.py").write_text(demo_command._PROGRAM, encoding="utf-8")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "gradguard", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            cwd=tmp_path,
            env=environment(),
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == "error: cannot write what there is to show: No space left on device\n"


@pytest.mark.skipif(os.name != "posix", reason="closes file descriptors as a shell does")
def test_without_anywhere_to_write_the_status_tells() -> None:
    """Streams that were closed before the command began change nothing else."""
    script = f"exec {shlex.quote(sys.executable)} -m gradguard rule $0 >&- 2>&-"
    for wanted, status in (("GG101", 0), ("GG999", 2)):
        done = subprocess.run(["/bin/sh", "-c", script, wanted], env=environment(), check=False)
        assert done.returncode == status


def test_rules_are_explained_without_torch(no_torch: dict[str, str]) -> None:
    """A lint job needs no training framework to look a code up."""
    done = invoke("rule", "GG204", env=no_torch)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_demo_without_torch_says_what_to_install(
    no_torch: dict[str, str], tmp_path: Path
) -> None:
    """One line names the command to run, and the status is that of a failure to run."""
    done = invoke("demo", "--out", str(tmp_path / "out"), env=no_torch)
    assert (done.returncode, done.stdout) == (2, "")
    assert INSTALL in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_demo_with_a_broken_torch_says_why(tmp_path: Path) -> None:
    """A framework that is there but cannot be loaded is not reported as missing."""
    (tmp_path / "torch.py").write_text("raise OSError('libfoo.so: not found')\n", encoding="utf-8")
    done = invoke("demo", "--out", str(tmp_path / "out"), env=environment(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert "libfoo.so: not found" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_demo_trains_clean_and_catches_the_planted_leak_with_its_exact_trace(
    tmp_path: Path,
) -> None:
    """Flow and quality of the clean run are shown, then the leak with its four lines of source."""
    done = invoke("demo", "--steps", "60", "--out", "shown", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    clean, leaking, source_half = re.split(r"\n[23]\. ", done.stdout)
    assert re.search(r"^critic_loss +● +·$", clean, re.MULTILINE)
    assert re.search(r"^generator_loss +· +●$", clean, re.MULTILINE)
    assert re.search(r"^quality: +\d of 8 modes covered, .* after 60 steps in", clean, re.MULTILINE)
    assert "no findings" in clean
    assert (tmp_path / "shown" / "checkpoint.pt").is_file()

    assert leaking.count("GG1") == 1
    assert "GG101 `critic_loss` reaches `generator`, which it does not train" in leaking
    assert "help: `self.critic(fake.detach())`" in leaking
    source = Path(trainer.__file__).read_text(encoding="utf-8").splitlines()
    trace = trace_of(leaking)
    assert [source[row - 1].strip() for row, _ in trace] == [text for _, text in trace]
    assert [text for _, text in trace] == [
        "fake = self.generator(noise)",
        "score_fake = self.critic(fake)",
        "self.critic_scaler.scale(objective).backward()",
        "self.critic_scaler.step(self.critic_optimizer)",
    ]
    found = "shown/leak.py:10:19: GG101 `critic_loss` reaches `generator`, which it does not train"
    assert found in source_half
    assert [text for _, text in trace_of(source_half)][-1] == "critic_opt.step()"
    assert "caught, live and in source; the loop without it is clean.\n" in source_half
    assert "gradguard run train.py  " in source_half


def test_the_demo_can_be_shown_twice_in_the_same_folder(tmp_path: Path) -> None:
    """What an earlier demo left is replaced, and the seed decides what is seen."""
    first, second = (invoke("demo", "--steps", "3", "--seed", "7", cwd=tmp_path) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0)
    assert re.sub(r"in \d+ s", "", first.stdout) == re.sub(r"in \d+ s", "", second.stdout)


def test_the_demo_fits_a_terminal_that_knows_only_ascii(tmp_path: Path) -> None:
    """Where the encoding lacks a sign there is another, as distinct as the first."""
    done = subprocess.run(
        [sys.executable, "-m", "gradguard", "demo", "--steps", "3"],
        capture_output=True,
        cwd=tmp_path,
        env=environment() | {"PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(rb"^critic_loss +\+ +-$", done.stdout, re.MULTILINE)


def test_the_demo_on_a_terminal_has_colours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where colour is wanted signs and codes have it, and no style tag is left as text."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert cli.main(["demo", "--steps", "2", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "\x1b[1;33mGG101" in said
    assert "[/]" not in said


def test_the_demo_leaves_a_report_of_the_leak(tmp_path: Path) -> None:
    """The page has the finding, the matrix and the timeline of the leaking loop."""
    assert cli.main(["demo", "--steps", "5", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text("utf-8")
    for told in ("GG101", "What reaches what", "Timeline of the ledger", "critic_loss deposits"):
        assert told in page


@pytest.mark.parametrize("planted", [False, True], ids=["a missed leak", "a false alarm"])
def test_the_demo_fails_if_the_guard_does_not_tell_the_two_loops_apart(
    planted: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The status is 1 if the leaking loop shows nothing, or if the correct one shows something."""
    real = gradguard.reference.demo_run

    def always(out: Path, *, plant_leak: bool = False, **rest: object) -> object:
        del plant_leak
        return real(out, plant_leak=planted, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(gradguard.reference, "demo_run", always)
    assert cli.main(["demo", "--steps", "2", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert ("was not caught" in said) is not planted
    assert ("something was found in it" in said) is planted


def test_the_demo_fails_if_the_leak_is_not_found_in_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both halves are shown, so both are asked for."""
    clean = demo_command._PROGRAM.replace("critic(fake)", "critic(fake.detach())")
    monkeypatch.setattr(demo_command, "_PROGRAM", clean)
    assert cli.main(["demo", "--steps", "2", "--out", str(tmp_path)]) == 1
    assert "The leak in source was not found." in capsys.readouterr().out


def test_the_demo_on_a_device_that_is_not_there_says_so(tmp_path: Path) -> None:
    """A missing GPU is one line on standard error and status 2."""
    hidden = environment() | {"CUDA_VISIBLE_DEVICES": ""}
    done = invoke("demo", "--device", "cuda", "--steps", "2", cwd=tmp_path, env=hidden)
    assert done.returncode == 2
    assert "finds no CUDA device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("inside", ["", "deeper"])
def test_the_demo_into_a_place_that_is_no_folder_says_so(inside: str, tmp_path: Path) -> None:
    """A file in the way is named, without a traceback, and is left as it was."""
    (tmp_path / "taken").write_text("mine", encoding="utf-8")
    done = invoke("demo", "--steps", "2", "--out", str(Path("taken") / inside), cwd=tmp_path)
    assert done.returncode == 2
    assert "taken" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "taken").read_text(encoding="utf-8") == "mine"


def test_an_interrupted_demo_ends_at_once_and_without_a_traceback(tmp_path: Path) -> None:
    """Control-C gives the status that shells expect of it."""
    with subprocess.Popen(
        [sys.executable, "-c", HEARS_CONTROL_C, "demo", "--steps", "1000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=environment(),
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in complaints


def test_a_fault_of_gradguard_itself_is_no_finding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unexpected error shows where it came from and ends with 2, which is not "findings"."""

    def broken(_: str) -> None:
        raise ZeroDivisionError("unforeseen")

    monkeypatch.setattr(sys.modules["gradguard.commands.rule"], "code", broken)
    assert cli.main(["rule", "GG101"]) == 2
    said = capsys.readouterr().err
    assert "ZeroDivisionError: unforeseen" in said
    assert "gradguard itself failed" in said

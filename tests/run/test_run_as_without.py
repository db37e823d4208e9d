"""A program under ``gradguard run`` behaves as it does without: each is run both ways."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from run_programs import JOINT
from run_support import ended, observed, plain

import gradguard
from gradguard.commands.ending import trimmed

WHO_AM_I = '''
"""A program that looks at itself."""
import pickle, sys

import __main__


class Kept:
    """A class of the main module."""


print(__name__, __file__, sys.argv, sys.path[0], __spec__, __package__, __cached__, __doc__)
print(type(__loader__), __annotations__, sorted(vars()))
print(__main__.Kept is Kept, type(pickle.loads(pickle.dumps(Kept()))) is Kept)
print(open(__file__).read().count("print"), sys.stdout.errors, sys.stderr.errors)
'''

WAYS = {
    "a script": ["prog.py", "--steps", "3", "-m", "x"],
    "a script in a folder": ["package/prog.py"],
    "a script behind a link": ["link.py"],
    "a folder": ["package"],
    "an archive": ["packed.zip", "a"],
    "a module": ["-m", "package.prog", "--html", "page.html"],
    "a package": ["-m", "package", "-q"],
}


@pytest.mark.parametrize("way", WAYS)
def test_a_program_finds_the_arguments_paths_and_main_module_that_it_would_find(
    tmp_path: Path, way: str
) -> None:
    """Nothing tells a program apart from one that the interpreter runs by itself."""
    package = tmp_path / "package"
    package.mkdir()
    for path in (tmp_path / "prog.py", package / "prog.py", package / "__main__.py"):
        path.write_text(WHO_AM_I.strip() + "\n")
    (package / "__init__.py").touch()
    (tmp_path / "link.py").symlink_to(package / "prog.py")
    if way == "an archive":
        source = WHO_AM_I.replace("open(__file__).read()", "__file__").strip()
        package.joinpath("__main__.py").write_text(source)
        ended(package, "-m", "zipfile", "-c", "../packed.zip", "__main__.py")
    without, within = plain(tmp_path, *WAYS[way]), observed(tmp_path, *WAYS[way])
    assert without.status == 0, without.err
    assert _nameless(within.out) == _nameless(without.out)
    assert (within.err, within.status) == (without.err, 0)


def _nameless(text: str) -> str:
    return re.sub(r"object at 0x[0-9a-f]+", "object", text)


ENDINGS = {
    "an error": "def f():\n    raise ValueError('no')\n\ntry:\n    f()\nexcept ValueError as e:\n"
    "    raise KeyError(1) from e",
    "a syntax error": "def f(:\n",
    "exit with a number": "import sys; sys.exit(7)",
    "exit with a negative number": "import sys; sys.exit(-1)",
    "exit with a text": "import sys; sys.exit('wrong')",
    "exit without a word": "raise SystemExit",
    "exit in a thread": "import sys, threading\n"
    "t = threading.Thread(target=lambda: sys.exit(3)); t.start(); t.join(); print('on')",
    "an error in a thread": "import threading\ndef f():\n    raise ValueError('no')\n"
    "t = threading.Thread(target=f, name='T'); t.start(); t.join(); print('on')",
    "threads that outlive the main one": "import threading, time\n"
    "def f():\n    time.sleep(0.2); print('late')\nthreading.Thread(target=f).start()\n"
    "print('main is through')",
    "functions for the end": "import atexit\natexit.register(print, 'first'); "
    "atexit.register(print, 'second')\nprint('main')",
    "functions for the end after an error": "import atexit\natexit.register(print, 'end')\n1 / 0",
    "a hook for errors": "import sys\nsys.excepthook = lambda *a: print('hook', a[0], a[1])\n1 / 0",
    "a hook that fails": "import sys\ndef hook(*a):\n    raise OSError('hook')\n"
    "sys.excepthook = hook\n1 / 0",
    "a hard exit": "import os; print('a', flush=True); os._exit(5)",
    "another program": "import os, sys; print('a', flush=True)\n"
    "os.execv(sys.executable, [sys.executable, '-c', 'print(1); raise SystemExit(4)'])",
    "a fork": "import os, sys\npid = os.fork()\nif not pid: sys.exit(3)\n"
    "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))",
    "a handler for its own signal": "import os, signal, sys\n"
    "signal.signal(signal.SIGTERM, lambda *a: sys.exit(9))\n"
    "os.kill(os.getpid(), signal.SIGTERM)",
    "a signal": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "an interrupt": "import os, signal; os.kill(os.getpid(), signal.SIGINT)",
    "an interrupt that it survives": "import os, signal\ntry:\n"
    "    os.kill(os.getpid(), signal.SIGINT)\nexcept KeyboardInterrupt: print('went on')",
    "an interrupt of its own": "raise KeyboardInterrupt",
    "a character that its terminal lacks": "print('\\udc80')",
    "a stream of its own": "import io, sys\nsys.stdout = io.StringIO()\nprint('unseen')",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_program_ends_as_it_would(tmp_path: Path, ending: str) -> None:
    """Output, traceback and exit status or signal are those of the program alone."""
    (tmp_path / "prog.py").write_text(ENDINGS[ending])
    assert observed(tmp_path, "prog.py") == plain(tmp_path, "prog.py")


WORKERS = """
import multiprocessing, os, signal, sys
import torch
from torch.utils.data import DataLoader, Dataset


class Doubled(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, number):
        return torch.tensor(2.0 * number)


def work(number):
    net = torch.nn.Linear(1, 1)
    opt = torch.optim.SGD(net.parameters(), 0.1)
    net(torch.ones(1, 1)).sum().backward()
    opt.step()
    return number + len(sys.argv) + (__name__ == "__main__")


if __name__ == "__main__":
    for way in ("fork", "spawn"):
        loader = DataLoader(Doubled(), num_workers=1, multiprocessing_context=way)
        print([float(one) for one in loader])
    with multiprocessing.get_context("fork").Pool(1) as pool:
        print(pool.map(work, [1, 2]))
    net = torch.nn.Sequential(torch.nn.Linear(2, 1))

    def fail(module, args):
        raise ValueError("in a hook")

    net.register_forward_pre_hook(fail)

    def train():
        net(torch.ones(1, 2)).sum().backward()

    if len(sys.argv) > 1:
        os.kill(os.getpid(), signal.SIGINT)
    train()
"""


def test_workers_and_errors_that_pass_through_torch_are_as_without(tmp_path: Path) -> None:
    """Children by fork and by spawn work; a traceback through a model shows no frame of ours."""
    (tmp_path / "prog.py").write_text(WORKERS)
    without, within = plain(tmp_path, "prog.py"), observed(tmp_path, "prog.py")
    assert "in a hook" in without.err
    assert within.err == without.err
    assert within.out.startswith(without.out)
    assert within.status == without.status == 1


TRAINING = """
import os, signal, sys, torch
torch.manual_seed(0)
G, D = torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)
og, od = torch.optim.SGD(G.parameters(), 0.1), torch.optim.SGD(D.parameters(), 0.1)
for number in range(3):
    fake = G(torch.randn(4, 3))
    od.zero_grad()
    d_loss = D(fake).mean()
    d_loss.backward()
    od.step()
    og.zero_grad()
    g_loss = -D(G(torch.randn(4, 3))).mean()
    g_loss.backward()
    og.step()
ending = sys.argv[1]
if ending == "interrupt":
    os.kill(os.getpid(), signal.SIGINT)
if ending == "error":
    raise ValueError("no")
if ending == "folder":
    os.chdir("/")
"""


@pytest.mark.parametrize(
    ("ending", "status"), [("interrupt", -signal.SIGINT), ("error", 1), ("folder", 1)]
)
def test_what_was_found_is_told_however_the_program_ends(
    tmp_path: Path, ending: str, status: int
) -> None:
    """An interrupt, an error or another working folder do not cost the report."""
    (tmp_path / "train.py").write_text(TRAINING)
    within = observed(tmp_path, "--fail-on", "warning", "train.py", ending)
    assert within.status == status
    assert "train.py:9:14: GG101 `d_loss` reaches `G`" in within.out
    if ending == "error":
        assert within.err == plain(tmp_path, "train.py", ending).err


@pytest.mark.parametrize("output_format", ["text", "json", "github"])
def test_a_report_begins_a_line_of_its_own(tmp_path: Path, output_format: str) -> None:
    """Also where the program has not ended its last one; the output of the program is the same."""
    (tmp_path / "train.py").write_text(TRAINING + "print('50%', end='')\n")
    done = observed(tmp_path, "--output-format", output_format, "train.py", "x")
    first, second = done.out.splitlines()[:2]
    assert first == "50%"
    assert second.startswith({"text": "train.py:9", "json": "[", "github": "::"}[output_format])


def test_a_report_into_a_file_begins_it_if_the_program_is_silent(tmp_path: Path) -> None:
    """What a machine reads begins at the first byte."""
    (tmp_path / "train.py").write_text(TRAINING)
    command = f"{sys.executable} -m gradguard run --output-format json train.py x > found.json"
    subprocess.run(command, shell=True, cwd=tmp_path, check=False)  # noqa: S602
    assert (tmp_path / "found.json").read_text().startswith("[")


def test_a_turn_that_was_cut_short_accuses_nobody(tmp_path: Path) -> None:
    """An interrupt between two steps for one loss does not make it look meant for the first."""
    cut = "os.kill(os.getpid(), signal.SIGINT)"
    (tmp_path / "train.py").write_text(JOINT.replace("# between the steps", cut))
    done = observed(tmp_path, "train.py")
    assert done.status == -signal.SIGINT
    assert "no findings" in done.out


def test_a_mistake_of_ours_costs_the_observation_not_the_program(tmp_path: Path) -> None:
    """It is told behind what the program did, and no traceback of ours is shown."""
    broken = (
        "from gradguard.runtime.observe.passages import Reader\nReader.read = None\n"
        + TRAINING
        + "print('through')\n"
    )
    (tmp_path / "train.py").write_text(broken)
    command = [sys.executable, "-m", "gradguard", "run", "train.py", "x"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout.startswith("through\n")
    [line] = done.stderr.splitlines()
    assert line.startswith("gradguard: observing failed and was stopped: TypeError: ")


def test_only_frames_of_the_package_are_left_out_of_tracebacks() -> None:
    """A program may lie beside the package, in a folder whose name begins alike."""
    beside = str(Path(gradguard.__file__).parent) + "_experiments/train.py"
    try:
        exec(compile("1 / 0", beside, "exec"))  # noqa: S102
    except ZeroDivisionError as error:
        trace = trimmed(error)
    assert trace is not None
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(trace)]
    assert files == [__file__, beside]


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    """A report into a pipe that nobody reads any more ends quietly."""
    (tmp_path / "train.py").write_text(TRAINING)
    command = f"{sys.executable} -m gradguard run train.py x | true"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, check=False)  # noqa: S602
    assert b"Traceback" not in done.stderr


def test_a_torch_that_is_looked_for_and_imported_later_is_observed(tmp_path: Path) -> None:
    """Libraries ask whether torch is there long before anything imports it."""
    (tmp_path / "train.py").write_text(
        "import importlib.util\nimportlib.util.find_spec('torch')\n" + TRAINING
    )
    assert "GG101" in observed(tmp_path, "train.py", "x").out

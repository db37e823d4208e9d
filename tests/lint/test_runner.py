"""Files that cannot be checked, processes that die or hang, and the order of what is reported."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gradguard.config import Config
from gradguard.core.findings import Finding
from gradguard.lint import Source, Sources, lint_sources
from gradguard.lint.pool import inspect_in_parallel

BROKEN = "def f(:\n"
FINE = "x = 1\n"
needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


@pytest.fixture
def blocking(tmp_path: Path) -> Iterator[Callable[[str], Source]]:
    """Return a maker of files whose reading never ends."""

    def make(name: str) -> Source:
        os.mkfifo(tmp_path / name)
        return Source(tmp_path / name, Config(tmp_path))

    yield make
    for child in multiprocessing.active_children():
        child.kill()


def sources(folder: Path, **contents: str | bytes) -> Sources:
    """Write files and return them as what is to be linted."""
    for name, content in contents.items():
        data = content.encode() if isinstance(content, str) else content
        (folder / f"{name}.py").write_bytes(data)
    return Sources.find([folder])


def told(findings: list[Finding]) -> list[tuple[str, int, int, str]]:
    """Return file, row, column and message of what is reported, all of it GG902."""
    assert {finding.code for finding in findings} <= {"GG902"}
    return [
        (Path(one.filename).name, one.location.row, one.location.column, one.message)
        for one in findings
    ]


def test_a_file_that_python_rejects_is_reported_and_the_others_are_checked(tmp_path: Path) -> None:
    """Broken syntax, encoding and bytes are each reported where they break."""
    found = sources(
        tmp_path,
        a="def f(:\n",
        b=b"# -*- coding: latin-1 -*-\nx = '\xe9'\n",
        c=b"x = '\xe9'\n",
        d=b"# -*- coding: klingon -*-\n",
        e="x = 1\n  y = 2\n",
        f=b"x = 1\0\n",
        g="é = (1 +\n",
        h="\ufeffx = 1\n",
        i="",
    )
    reported = told(lint_sources(found))
    assert [row[:2] for row in reported] == [
        ("a.py", 1), ("c.py", 1), ("d.py", 1), ("e.py", 2), ("f.py", 1), ("g.py", 1),
    ]  # fmt: skip
    assert reported[0][2] == 7
    assert reported[0][3].startswith("cannot be parsed by Python 3.")
    assert all("cannot be decoded" in reported[number][3] for number in (1, 2))


def test_a_file_of_doubtful_syntax_raises_no_warning(tmp_path: Path) -> None:
    """What Python itself warns of when it parses is not shown, nor does it fail."""
    found = sources(tmp_path, a="import torch\nx = '\\d'\nassert (x, 'always')\nx is 'a'\n")
    assert lint_sources(found) == []


def test_a_file_nested_beyond_measure_does_not_end_the_run(tmp_path: Path) -> None:
    """Depth that no parser stands is reported, and the next file is checked."""
    deep = "x = " + "(" * 5000 + ")" * 5000 + "\n"
    found = sources(tmp_path, a=deep, b="y = " + "-" * 100_000 + "1\n", c=BROKEN)
    assert [row[0] for row in told(lint_sources(found))] == ["a.py", "b.py", "c.py"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="anyone may read here")
def test_what_may_not_be_read_is_reported(tmp_path: Path) -> None:
    """A file and a folder without permission are findings, not gaps."""
    found = sources(tmp_path, a=FINE)
    (tmp_path / "a.py").chmod(0)
    assert "Permission denied" in told(lint_sources(found))[0][3]


def test_a_file_that_has_gone_since_it_was_found_is_reported(tmp_path: Path) -> None:
    """Between listing and reading a file may vanish."""
    found = sources(tmp_path, a=FINE)
    (tmp_path / "a.py").unlink()
    assert told(lint_sources(found))[0][3] == "cannot be read: No such file or directory"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_processes_report_what_one_process_does(count: int, tmp_path: Path) -> None:
    """Every file is answered for once, in the order of the files, by however many processes."""
    contents = {f"m{number:02}": BROKEN if number % 3 else FINE for number in range(20)}
    files = sources(tmp_path, **contents).files
    inspections = inspect_in_parallel(files, [tmp_path], count, 10.0)
    assert [inspection.path for inspection in inspections] == [one.path for one in files]
    assert [inspection.complete for inspection in inspections] == [
        number % 3 == 0 for number in range(20)
    ]
    assert multiprocessing.active_children() == []


@needs_pipes
def test_a_file_that_never_ends_is_given_up_after_its_time(
    tmp_path: Path, blocking: Callable[[str], Source]
) -> None:
    """The time bound holds wherever the time goes, and the next file is checked."""
    found = sources(tmp_path, z=BROKEN)
    found.files.insert(0, blocking("a.py"))
    reported = told(lint_sources(found, time_limit=0.1))
    assert reported[0] == ("a.py", 1, 1, "takes longer than 0.1 s to check")
    assert [row[0] for row in reported] == ["a.py", "z.py"]


@needs_pipes
def test_a_process_that_dies_costs_the_file_that_it_was_at(
    tmp_path: Path, blocking: Callable[[str], Source]
) -> None:
    """A worker killed from outside is replaced, and what it had been given besides is checked."""
    files = sources(tmp_path, b=BROKEN, c=FINE, d=BROKEN, e=BROKEN, f=BROKEN).files
    files.insert(0, blocking("a.py"))

    def kill_the_worker() -> None:
        while not (children := multiprocessing.active_children()):
            time.sleep(0.01)
        time.sleep(0.5)
        os.kill(children[0].pid or 0, signal.SIGKILL)

    killer = threading.Thread(target=kill_the_worker)
    killer.start()
    inspections = inspect_in_parallel(files, [tmp_path], 1, 60.0)
    killer.join()
    messages = [one.message for inspection in inspections for one in inspection.findings]
    assert messages[0] == "cannot be checked: the process that did it died"
    assert [inspection.complete for inspection in inspections] == [
        False, False, True, False, False, False,
    ]  # fmt: skip


@needs_pipes
def test_a_process_that_does_not_answer_is_replaced(
    tmp_path: Path, blocking: Callable[[str], Source]
) -> None:
    """A worker that is stopped, and cannot interrupt itself, is given up like a slow file."""
    files = [blocking("a.py"), *sources(tmp_path, b=FINE).files]

    def stop_the_worker() -> None:
        while not (children := multiprocessing.active_children()):
            time.sleep(0.01)
        os.kill(children[0].pid or 0, signal.SIGSTOP)

    stopper = threading.Thread(target=stop_the_worker)
    stopper.start()
    first, second = inspect_in_parallel(files, [tmp_path], 1, 0.1)
    stopper.join()
    assert [one.message for one in first.findings] == ["takes longer than 0.1 s to check"]
    assert second.complete

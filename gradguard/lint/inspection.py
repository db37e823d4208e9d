"""One file, inspected: read, analysed within its time, and what came of it."""

from __future__ import annotations

import ast
import contextlib
import gc
import io
import platform
import signal
import threading
import time
import tokenize
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gradguard.core.codes import code
from gradguard.core.findings import Finding, Location, Place
from gradguard.core.suppressions import Suppressions
from gradguard.lint.files import Source
from gradguard.lint.prefilter import may_train, prefilter
from gradguard.lint.project import Project, Unreadable
from gradguard.lint.run import OutOfTime

__all__ = ["GRACE", "SLOWED", "Inspection", "inspect", "source_text", "unreadable"]

GRACE = 1.0
"""Seconds that an analysis gets beyond its time to notice that it is over."""

SLOWED = 3
"""What a file takes is counted in seconds of processor time; on a busy machine they are longer."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What came of one file.

    Attributes:
        path: The file.
        findings: All that was found, silenced or not; some may be in files that it imports.
        suppressions: The comments in the file that silence findings.
        complete: False if not everything in the file was looked at.
    """

    path: Path
    findings: tuple[Finding, ...] = ()
    suppressions: Suppressions = field(default_factory=Suppressions)
    complete: bool = True


class _Alarm(BaseException):
    """Raised in the middle of whatever runs when a file's time is over."""


def inspect(source: Source, project: Project, time_limit: float) -> Inspection:
    """Inspect one file; whatever is wrong with it becomes a finding.

    Args:
        source: The file and its settings.
        project: The files that its imports can lead to.
        time_limit: Seconds after which the file is given up.
    """
    path = source.path
    suppressions = Suppressions()
    try:
        with (
            _alarm(SLOWED * time_limit + GRACE),
            _seldom_collected(),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter(
                "ignore"
            )  # What is dubious in the user's syntax is not our subject.
            deadline = time.thread_time() + time_limit
            text = source_text(path, source.content)
            if source.content is not None:
                project.hold(path, text)
            suppressions = Suppressions.parse(text, str(path))
            findings = _analysed(source, text, project, deadline)
    except Unreadable as error:
        return unreadable(path, str(error), error.row, error.column)
    except (OutOfTime, _Alarm):
        return unreadable(path, f"takes longer than {time_limit:g} s to check")
    except (RecursionError, MemoryError):
        return unreadable(path, "cannot be checked: it is nested too deeply, or too large")
    except Exception as error:  # noqa: BLE001  One file must not keep the others from being checked.
        return unreadable(path, f"cannot be checked: {_own_fault(error)}")
    return Inspection(path, findings, suppressions)


@contextlib.contextmanager
def _seldom_collected() -> Iterator[None]:
    """Look for garbage more rarely: nearly all that an analysis makes lives as long as it does."""
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], _COLLECTED) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


_COLLECTED = 100_000
"""Objects after which the youngest are collected."""


def _own_fault(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}:{last.lineno}"
    what = f"{type(error).__name__}: {error}".splitlines()[0]
    return f"gradguard itself failed at {place} ({what}); please report this"


def source_text(path: Path, content: bytes | None = None) -> str:
    """Return what a file holds, decoded as it says; ``content`` is taken for what it holds.

    Raises:
        Unreadable: If it cannot be read or decoded.
    """
    try:
        data = path.read_bytes() if content is None else content
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return io.TextIOWrapper(io.BytesIO(data), encoding).read()
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror or error}") from None
    except (UnicodeDecodeError, SyntaxError) as error:
        raise Unreadable(f"cannot be decoded: {error}") from None


def _analysed(source: Source, text: str, project: Project, deadline: float) -> tuple[Finding, ...]:
    if prefilter(text) or (
        may_train(text) and project.inherits_training(project.file(source.path))
    ):
        from gradguard.lint.engine import analyse

        found = analyse(source.path, project, source.config, deadline).findings
        if source.content is None:
            project.trim()
        return found
    _parse(text)
    return ()


def _parse(text: str) -> None:
    """Parse a file that has nothing to report, so that its silence means something."""
    try:
        ast.parse(text)
    except SyntaxError as error:
        version = platform.python_version().rpartition(".")[0]
        message = f"cannot be parsed by Python {version}: {error.msg}"
        raise Unreadable(message, error.lineno or 1, error.offset or 1) from None
    except ValueError as error:
        raise Unreadable(f"cannot be parsed: {error}") from None


def unreadable(path: Path, message: str, row: int = 1, column: int = 1) -> Inspection:
    """Return what comes of a file that could not be looked at to its end."""
    entry = code("GG902")
    place = Place(str(path), Location(row, column))
    finding = Finding(entry.code, entry.name, entry.severity, message, place)
    return Inspection(path, (finding,), complete=False)


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Interrupt the block after ``seconds``, where the platform and the thread allow it."""
    if (
        not hasattr(signal, "setitimer")
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return
    running = True

    def ring(*_: object) -> None:
        if running:
            raise _Alarm

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        running = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

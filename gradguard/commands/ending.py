"""The end of a program, as the interpreter itself brings it about: errors, threads, status."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

__all__ = ["clean_thread_errors", "conclude", "interrupt"]

_OWN = f"{Path(__file__).resolve().parents[1]}{os.sep}"


def conclude(error: BaseException | None) -> int:
    """Do what the interpreter does at the end of a program, and return its exit status.

    Args:
        error: What ended the program, if it did not come to its last line.
    """
    status = 0
    if isinstance(error, SystemExit):
        # What the program's frames hold is let go of before its functions for the end run.
        error.__traceback__ = None
        status = _asked(error.code)
    elif error is not None:
        status = 1
        _show(error)
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001
    except BaseException as late:  # noqa: BLE001  An interrupt while threads are waited for.
        trimmed(late)
        print(f"Exception ignored in: {threading!r}", file=sys.stderr)  # noqa: T201
        traceback.print_exception(late)
    atexit._run_exitfuncs()  # noqa: SLF001
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
    return status


def _asked(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    sys.stdout.flush()
    print(code, file=sys.stderr)  # noqa: T201
    return 1


def _show(error: BaseException) -> None:
    trace = trimmed(error)
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
    hook = sys.excepthook
    try:
        hook(type(error), error, trace)
    except BaseException as other:  # noqa: BLE001  As the interpreter: show both.
        print("Error in sys.excepthook:", file=sys.stderr)  # noqa: T201
        traceback.print_exception(trimmed_error(other))
        print("\nOriginal exception was:", file=sys.stderr)  # noqa: T201
        sys.__excepthook__(type(error), error, trace)


def trimmed_error(error: BaseException) -> BaseException:
    """Return an error without the frames of this package."""
    trimmed(error)
    return error


def trimmed(error: BaseException) -> TracebackType | None:
    """Take the frames of this package out of a traceback, and of those of its causes."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = _without_own(one.__traceback__)
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
    return error.__traceback__


def _without_own(trace: TracebackType | None) -> TracebackType | None:
    kept: list[TracebackType] = []
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(_OWN):
            kept.append(trace)
        trace = trace.tb_next
    if not kept:
        return None
    for one, following in zip(kept, [*kept[1:], None], strict=True):
        one.tb_next = following
    return kept[0]


@contextlib.contextmanager
def clean_thread_errors() -> Iterator[None]:
    """Show errors that end threads without the frames of this package."""
    before = threading.excepthook

    def excepthook(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            trace = trimmed(args.exc_value)
            args = threading.ExceptHookArgs((args.exc_type, args.exc_value, trace, args.thread))
        before(args)

    threading.excepthook = excepthook
    try:
        yield
    finally:
        if threading.excepthook is excepthook:
            threading.excepthook = before


def interrupt() -> None:
    """End as an interrupted program does."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)

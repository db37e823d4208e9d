"""How a finding that fails a test is shown: its trace, without the frames between."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from gradguard.core.findings import IsolationError, IsolationWarning

__all__ = ["VERDICT", "show"]

VERDICT = pytest.StashKey[IsolationError]()
"""What the end of a test's call has raised, where no line of the test is running."""

_OWN = f"{Path(__file__).resolve().parents[1]}{os.sep}"


def show(
    item: pytest.Item,
    excinfo: pytest.ExceptionInfo[BaseException],
    report: pytest.TestReport,
) -> None:
    """Show a finding in a report as a reader of the test wants it.

    Args:
        item: The test.
        excinfo: What it failed with; anything but what a guard raises is left alone.
        report: The report, which is changed.
    """
    error = excinfo.value
    if not isinstance(error, IsolationError | IsolationWarning):
        return
    if not item.config.getoption("fulltrace", default=False):
        if item.stash.get(VERDICT, None) is error:
            report.longrepr = excinfo.getrepr(style="value")
        else:
            _cut(error)
            report.longrepr = item.repr_failure(pytest.ExceptionInfo.from_exception(error))
    crash: Any = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        crash.message = _headline(error)


def _headline(error: IsolationError | IsolationWarning) -> str:
    """Return what the short summary says of an error."""
    if isinstance(error, IsolationWarning) or not error.findings:
        return str(error).strip().partition("\n")[0]
    first, *rest = error.findings
    return f"{first.code} {first.message}" + (f" (and {len(rest)} more)" if rest else "")


def _cut(error: BaseException) -> None:
    """End the traceback of an error where the program calls torch or gradguard."""
    torch = sys.modules.get("torch")
    homes = [_OWN]
    if torch is not None and torch.__file__:
        homes.append(f"{Path(torch.__file__).parent}{os.sep}")
    last: TracebackType | None = None
    step = error.__traceback__
    while step is not None:
        if not any(step.tb_frame.f_code.co_filename.startswith(home) for home in homes):
            last = step
        step = step.tb_next
    if last is not None:
        last.tb_next = None

"""Findings as workflow commands, which GitHub shows beside the changed lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from gradguard.core.findings import Finding, Severity
from gradguard.core.layout import finding_lines, plain, visible
from gradguard.report.paths import is_file, posix

__all__ = ["workflow_commands"]

_COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}


def workflow_commands(findings: Iterable[Finding], *, root: Path | None = None) -> Iterator[str]:
    """Yield one command for each finding.

    Args:
        findings: What was found.
        root: The folder of the checkout; the current directory by default.
    """
    for finding in findings:
        properties = {"title": f"{finding.code} {finding.name}"}
        if is_file(finding.filename):
            properties = {"file": posix(finding.filename, root)[0], **_span(finding), **properties}
        told = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
        _, _, below = plain(finding_lines(finding)).partition("\n")
        message = visible(finding.message) + (f"\n{below}" if below else "")
        yield f"::{_COMMANDS[finding.severity]} {told}::{_data(message)}"


def _span(finding: Finding) -> dict[str, str]:
    begin, end = finding.location, finding.end_location
    span = {"line": str(begin.row)}
    if end is None or end.row < begin.row:
        return {**span, "col": str(begin.column)}
    if end.row > begin.row:
        # Columns are for a single line; with them the command is shown nowhere.
        return {**span, "endLine": str(end.row)}
    return {
        **span,
        "endLine": str(end.row),
        "col": str(begin.column),
        "endColumn": str(max(end.column, begin.column)),
    }


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")

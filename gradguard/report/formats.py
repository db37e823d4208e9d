"""One door for all that is written as text: findings, and the matrix where there is one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Literal, get_args

from rich.console import Console

from gradguard.core.findings import Finding, Severity
from gradguard.core.flow import FlowMatrix
from gradguard.core.layout import Line, Part, Role, finding_lines, matrix_lines, plain, rich_lines
from gradguard.report.github import workflow_commands
from gradguard.report.sarif import sarif

__all__ = ["FORMATS", "Format", "render", "show", "totals"]

Format = Literal["text", "json", "sarif", "github"]
FORMATS: tuple[Format, ...] = get_args(Format)


def render(
    findings: Iterable[Finding],
    *,
    format: Format = "text",  # noqa: A002  The word that the command line uses.
    matrix: FlowMatrix | None = None,
    root: Path | None = None,
) -> str:
    """Return findings as text for a person or a machine, ending in one line break.

    Args:
        findings: What was found, in the order to show it in.
        format: ``"text"`` is the form that a terminal without colours shows, each finding as its
            ``str``, then the matrix, then a line that sums up. ``"json"`` is a list of
            :meth:`Finding.to_dict`, whose keys are Ruff's. ``"sarif"`` is SARIF 2.1.0, the matrix
            in the run's properties. ``"github"`` is one workflow command for each finding.
        matrix: What reaches what, where that was observed; ``"json"`` and ``"github"`` have no
            place for it.
        root: Where the paths of SARIF and GitHub begin; the current directory by default.

    Raises:
        ValueError: If there is no such format.

    Example:
        >>> from gradguard.core.findings import Finding, Location, Place, Severity
        >>> place = Place("train.py", Location(44, 22), Location(44, 34))
        >>> finding = Finding("GG101", "leaking-loss", Severity.WARNING, "`a` reaches `b`", place)
        >>> print(render([finding]), end="")
        train.py:44:22: GG101 `a` reaches `b`
        <BLANKLINE>
        found 1 finding: 1 warning
    """
    found = list(findings)
    match format:
        case "text":
            blocks = [plain(block) for block in _blocks(found, matrix)]
            return "\n\n".join(blocks) + "\n"
        case "json":
            plain_data = [finding.to_dict() for finding in found]
            return json.dumps(plain_data, indent=2) + "\n"
        case "sarif":
            log = sarif(found, matrix=matrix, root=root)
            return json.dumps(log, indent=2) + "\n"
        case "github":
            return "".join(f"{line}\n" for line in workflow_commands(found, root=root))
    raise ValueError(f"no format {format!r}; the formats are: {', '.join(FORMATS)}")


def show(
    findings: Iterable[Finding],
    *,
    matrix: FlowMatrix | None = None,
    console: Console | None = None,
) -> None:
    """Print findings, matrix and sum as :func:`render` does, fitted to where they are read.

    On a terminal there are colours, unless ``NO_COLOR`` or ``TERM=dumb`` says otherwise, and lines
    are broken at its width. Elsewhere it is the plain text, with signs that the encoding has.

    Args:
        findings: What was found, in the order to show it in.
        matrix: What reaches what, where that was observed.
        console: Where to print; standard output by default.

    Example:
        >>> show([])
        no findings
    """
    console = console or Console()
    width = console.width if console.is_terminal else None
    ascii_only = console.options.ascii_only
    for number, block in enumerate(_blocks(list(findings), matrix, width, ascii_only)):
        for line in [*rich_lines([(Part(""),)] if number else []), *rich_lines(block)]:
            console.print(line, soft_wrap=True)


def _blocks(
    findings: list[Finding],
    matrix: FlowMatrix | None,
    width: int | None = None,
    ascii_only: bool = False,
) -> list[list[Line]]:
    """Return what is to be shown, as blocks with a blank line between them."""
    blocks = [finding_lines(finding, width) for finding in findings]
    if matrix is not None:
        blocks.append(matrix_lines(matrix, width, ascii_only))
    return [*blocks, [totals(findings)]]


def totals(findings: Collection[Finding]) -> Line:
    """Lay out how many findings there are, by severity."""
    if not findings:
        return (Part("no findings", Role.HELP),)
    counts = Counter(finding.severity for finding in findings)
    told = [
        Part(f"{counts[severity]} {severity}{'s' * (counts[severity] > 1)}", Role[severity.name])
        for severity in Severity
        if counts[severity]
    ]
    parts = [Part(f"found {len(findings)} finding{'s' * (len(findings) > 1)}: ")]
    for number, part in enumerate(told):
        parts += [Part(", "), part] if number else [part]
    return tuple(parts)

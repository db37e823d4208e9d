"""The section at the end of a session: what was found, and what reaches what."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from gradguard._pytest.seen import Summary, Told, listed
from gradguard.core.flow import FlowMatrix, Sign
from gradguard.core.layout import Line, Part, Role, finding_lines, headline, matrix_lines, visible
from gradguard.report import totals

__all__ = ["section", "write"]

_MOST = 50
"""A terminal is no place for more findings or losses than this; a report is."""

_MARKUP = {"dim": "light", "bright_black": "light"}
_REST = "--gradguard-report=FILE.html shows all"


def section(summary: Summary, width: int | None, *, ascii_only: bool) -> Iterator[Line]:
    """Lay the section out.

    Args:
        summary: What was seen.
        width: Columns there are, if that is known.
        ascii_only: Use signs that every encoding has.
    """
    if not summary.tests:
        came = "no test ran backward" if "torch" in sys.modules else "no test imported torch"
        yield (Part(f"{came}: there is nothing to tell"),)
        return
    for told in summary.told[:_MOST]:
        yield from _finding(told, width)
        yield ()
    left = len(summary.told) - _MOST
    if left > 0:
        yield (Part(f"{left} more findings: {_REST}", Role.QUIET),)
        yield ()
    if summary.matrix.losses:
        matrix = _shortened(summary.matrix)
        yield from matrix_lines(matrix, width, ascii_only)
        hidden = len(summary.matrix.losses) - len(matrix.losses)
        if hidden:
            yield (Part(f"{hidden} more losses: {_REST}", Role.QUIET),)
        yield ()
    for test, reason in summary.troubles:
        told_of = f"{test} was not judged, by a mistake in gradguard: {reason}"
        yield (Part(visible(told_of), Role.WARNING),)
    count = len(summary.tests)
    ran = f"{count} test{'s' * (count > 1)} ran backward; "
    yield (Part(ran), *totals(summary.findings))


def _finding(told: Told, width: int | None) -> Iterator[Line]:
    where = f"in {listed(told.tests)}"
    if told.shown:
        yield from headline(told.finding, width)
        yield (Part(f"    {visible(where)}", Role.HELP),)
    else:
        yield from finding_lines(told.finding, width, [where])


def _shortened(matrix: FlowMatrix) -> FlowMatrix:
    """Leave out the losses of least interest, where there are too many, and what they alone reach.

    What was found about a loss comes first, then the order in which they were seen.
    """
    if len(matrix.losses) <= _MOST:
        return matrix
    telling = {Sign.LEAKED, Sign.STARVED, Sign.UNKNOWN}

    def dull(loss: str) -> bool:
        return not any(matrix.sign(loss, model) in telling for model in matrix.models)

    kept = set(sorted(matrix.losses, key=dull)[:_MOST])
    losses = tuple(loss for loss in matrix.losses if loss in kept)
    models = tuple(
        model
        for model in matrix.models
        if any(matrix.sign(loss, model) is not Sign.NONE for loss in losses)
    )
    return FlowMatrix(losses, models, matrix.cells, matrix.kinds, matrix.starved)


def write(writer: Any, lines: Iterable[Line]) -> None:
    """Write lines as pytest writes its own, in colours where it does."""
    for line in lines:
        last = len(line) - 1
        for number, part in enumerate(line):
            words = [_MARKUP.get(word, word) for word in part.role.value.split()]
            markup = {word: True for word in words if word not in ("none", "default")}
            text = part.text.rstrip() if number == last else part.text
            writer.write(text, **markup)
        writer.line()

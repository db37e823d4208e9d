"""The lines of source that a finding speaks of, with what is said of them."""

from __future__ import annotations

import linecache
from collections.abc import Iterator
from dataclasses import dataclass

from gradguard.core.findings import Finding, Place
from gradguard.core.layout import relative, visible

__all__ = ["Excerpt", "SourceLine", "excerpts"]

_AROUND = 1
_LONGEST = 400


@dataclass(frozen=True, slots=True)
class SourceLine:
    """One line of an excerpt.

    Attributes:
        row: Its number in the file, counted from 1.
        before: Its text up to what is marked.
        marked: What the finding points to on this line; empty if nothing.
        after: The rest.
        notes: What happened there.
        gap: Whether lines before it were left out.
    """

    row: int
    before: str
    marked: str
    after: str
    notes: tuple[str, ...]
    gap: bool


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Lines of one file."""

    filename: str
    lines: tuple[SourceLine, ...]


def excerpts(finding: Finding) -> list[Excerpt]:
    """Return the lines of a finding's place and trace with their neighbours, file by file.

    A file that cannot be read is shown by its notes alone.
    """
    places: dict[str, dict[int, list[str]]] = {finding.filename: {finding.location.row: []}}
    for step in finding.trace:
        rows = places.setdefault(step.filename, {})
        rows.setdefault(step.location.row, []).append(step.message)
    return [
        Excerpt(visible(relative(filename)), tuple(_lines(filename, rows, finding.place)))
        for filename, rows in places.items()
        if any(rows.values()) or _text(filename)
    ]


def _lines(filename: str, rows: dict[int, list[str]], here: Place) -> Iterator[SourceLine]:
    text = _text(filename)
    shown = set(rows)
    for row in rows:
        shown |= {
            near
            for near in range(row - _AROUND, row + _AROUND + 1)
            if 1 <= near <= len(text) and text[near - 1].strip()
        }
    indent = min(
        (
            len(line) - len(line.lstrip())
            for line in (text[row - 1] for row in shown if row <= len(text))
        ),
        default=0,
    )
    last = 0
    for row in sorted(shown):
        line = text[row - 1].rstrip()[:_LONGEST] if row <= len(text) else ""
        begin, end = indent, indent
        if filename == here.filename and row == here.location.row:
            begin, end = _marked(line, here)
        yield SourceLine(
            row,
            visible(line[indent:begin]),
            visible(line[begin:end]),
            visible(line[end:]),
            tuple(visible(note) for note in rows.get(row, ())),
            bool(last) and row > last + 1,
        )
        last = row


def _marked(line: str, here: Place) -> tuple[int, int]:
    indent = len(line) - len(line.lstrip())
    begin = max(here.location.column - 1, indent)
    end = here.end_location
    if end is None:
        return indent, indent
    return (begin, max(begin, end.column - 1) if end.row == here.location.row else len(line))


def _text(filename: str) -> list[str]:
    try:
        return linecache.getlines(filename)
    except ValueError:  # A name that no file can have.
        return []

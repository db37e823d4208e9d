"""How findings and matrices are laid out as lines of text, whoever shows them.

A line is a tuple of parts, each with a role, so that one layout serves plain text, a terminal with
colours and a notebook. Nothing in a line can move a cursor or reorder what stands beside it.
"""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from gradguard.core.findings import Finding, Place
    from gradguard.core.flow import FlowMatrix

__all__ = [
    "Line",
    "Part",
    "Role",
    "finding_lines",
    "headline",
    "matrix_lines",
    "plain",
    "relative",
    "rich_lines",
    "visible",
]

_SOURCE_COLUMN = 48
"""Longer source lines do not push the messages of the others aside."""

_INDENT = "    "
_LEAST_SOURCE = 16


class Role(Enum):
    """What a part of a line is; the value is its style in a terminal with colours."""

    PATH = "bold"
    ERROR = "bold red"
    WARNING = "bold yellow"
    INFO = "bold blue"
    TEXT = ""
    GUTTER = "bright_black"
    SOURCE = "none"
    NOTE = "cyan"
    HELP = "green"
    NAME = "bold default"
    MEANT = "bold green"
    SPILLED = "yellow"
    LEAKED = "red"
    STARVED = "magenta"
    UNKNOWN = "blue"
    QUIET = "dim"


class Part(NamedTuple):
    """A stretch of a line."""

    text: str
    role: Role = Role.TEXT


Line = tuple[Part, ...]


class _Row(NamedTuple):
    """One line of a trace: where, what the source says there, and what happened."""

    label: str
    source: str
    message: str
    carets: tuple[int, int] | None


def plain(lines: Iterable[Line]) -> str:
    """Return lines as text without styles."""
    return "\n".join("".join(part.text for part in line).rstrip() for line in lines)


def rich_lines(lines: Iterable[Line]) -> Iterator[Any]:
    """Return lines as renderables of rich, styled by role."""
    from rich.text import Text

    for line in lines:
        text = Text(no_wrap=True, overflow="ignore")
        for part in line:
            text.append(part.text, style=part.role.value or None)
        text.rstrip()
        yield text


def visible(text: str) -> str:
    r"""Show as escapes what would move the cursor, hide, or reorder what stands beside it.

    Example:
        >>> print(visible("a\x1b[2Jb"))
        a\x1b[2Jb
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text.expandtabs(4))


def relative(filename: str, root: Path | None = None) -> str:
    """Return a path relative to ``root``, or to the current directory, if it lies below."""
    try:
        return str(Path(filename).relative_to(root or Path.cwd()))
    except (ValueError, OSError):
        return filename


def headline(finding: Finding, width: int | None = None) -> list[Line]:
    """Lay out what a finding says, without what shows it."""
    place = f"{relative(finding.filename)}:{finding.location.row}:{finding.location.column}:"
    line = (
        Part(visible(place), Role.PATH),
        Part(" "),
        Part(finding.code, Role[finding.severity.name]),
        Part(f" {visible(finding.message)}"),
    )
    return _wrapped(line, width, _INDENT)


def finding_lines(
    finding: Finding, width: int | None = None, notes: Iterable[str] = ()
) -> list[Line]:
    """Lay a finding out as a compiler would: headline, source lines of the trace, help.

    Args:
        finding: The finding.
        width: Columns there are; where they do not suffice, messages go below their source.
        notes: What else to say of it.
    """
    role = Role[finding.severity.name]
    rows = _rows(finding)
    label_width = max((cells(row.label) for row in rows), default=0)
    blank = f"   {'':>{label_width}} "
    lines = headline(finding, width)
    source_width = min(max((cells(row.source) for row in rows), default=0), _SOURCE_COLUMN)
    fits = width is None or all(_needs(row, label_width, source_width) <= width for row in rows)
    for row in rows:
        gutter = Part(f"   {_left(row.label, label_width)} | ", Role.GUTTER)
        below = Part(f"{blank}| ", Role.GUTTER)
        shown = row if fits or width is None else _cropped(row, width - len(blank) - 2)
        message = Part(row.message, Role.NOTE)
        if fits and row.message:
            padded = Part(_right(shown.source, source_width) + "  ", Role.SOURCE)
            lines.append((gutter, padded, message))
        else:
            lines.append((gutter, Part(shown.source, Role.SOURCE)))
        if shown.carets is not None:
            begin, end = shown.carets
            indent = " " * cells(shown.source[:begin])
            carets = "^" * max(cells(shown.source[begin:end]), 1)
            lines.append((below, Part(indent), Part(carets, role)))
        if not fits and row.message:
            lines += _wrapped((below, Part("  "), message), width, f"{blank}|   ")
    own = [f"help: {finding.help}"] if finding.help else []
    own += [f"seen {finding.count} times"] if finding.count > 1 else []
    for note in (*own, *notes):
        line = (Part(f"{blank}= ", Role.GUTTER), Part(visible(note), Role.HELP))
        lines += _wrapped(line, width, f"{blank}  ")
    return lines


def matrix_lines(
    matrix: FlowMatrix, width: int | None = None, ascii_only: bool = False
) -> list[Line]:
    """Lay a matrix out as a table, or, where the columns do not suffice, as a list by loss.

    Args:
        matrix: The matrix.
        width: Columns there are.
        ascii_only: Use signs that every encoding has.
    """
    if not matrix.losses or not matrix.models:
        return [(Part("no loss has run backward yet"),)]
    losses = [visible(loss) for loss in matrix.losses]
    models = [visible(model) for model in matrix.models]
    rows = [[matrix.sign(loss, model) for model in matrix.models] for loss in matrix.losses]
    used = dict.fromkeys(sign for row in rows for sign in row)
    marks = {sign: Part(sign.ascii if ascii_only else sign.mark, sign.role) for sign in used}
    first = max(cells(loss) for loss in losses)
    needed = first + sum(cells(model) + 2 for model in models)
    lines: list[Line] = []
    if width is None or needed <= width:
        heads = (Part(f"  {model}", Role.NAME) for model in models)
        lines.append((Part(" " * first), *heads))
        for loss, row in zip(losses, rows, strict=True):
            line = [Part(_right(loss, first))]
            for sign, model in zip(row, models, strict=True):
                left = (cells(model) - 1) // 2
                line += [
                    Part(" " * (2 + left)),
                    marks[sign],
                    Part(" " * (cells(model) - 1 - left)),
                ]
            lines.append(tuple(line))
    else:
        for loss, row in zip(losses, rows, strict=True):
            lines.append((Part(loss, Role.NAME),))
            told = [
                (marks[sign], Part(f" {model}"))
                for sign, model in zip(row, models, strict=True)
                if sign.tells
            ]
            silent = [marks[sign] for sign in row if not sign.tells]
            others = "all others" if told else "all models"
            rest = [(silent[0], Part(f" {others}"))] if silent else []
            lines += _flowed(told + rest, width, "  ")
    legend = [(marks[sign], Part(f" {sign.words}")) for sign in used]
    lines += _flowed(legend, width, "")
    return lines


def cells(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0
        if unicodedata.category(char) in ("Mn", "Me")
        else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def _rows(finding: Finding) -> list[_Row]:
    """Return the trace as rows, with the finding's own line among them."""
    spots: list[tuple[Place, str]] = [(step.place, step.message) for step in finding.trace]
    here = finding.place
    if here.source and not any(_same_line(place, here) for place, _ in spots):
        later = (
            number
            for number, (place, _) in enumerate(spots)
            if place.filename == here.filename and place.location.row > here.location.row
        )
        spots.insert(next(later, len(spots)), (here, ""))
    elsewhere = any(place.filename != here.filename for place, _ in spots)
    marked = next((place for place, _ in spots if _same_line(place, here)), None)
    return [
        _Row(
            visible(_label(place, elsewhere)),
            visible(place.source),
            visible(message),
            _carets(here) if place is marked else None,
        )
        for place, message in spots
    ]


def _same_line(one: Place, other: Place) -> bool:
    return (one.filename, one.location.row) == (other.filename, other.location.row)


def _label(place: Place, with_file: bool) -> str:
    row = str(place.location.row)
    return f"{Path(place.filename).name}:{row}" if with_file else row


def _carets(place: Place) -> tuple[int, int] | None:
    """Return from where to where the shown source line of a place is marked."""
    line, column, end = place.line, place.location.column - 1, place.end_location
    indent = len(line) - len(line.lstrip())
    last = len(line.rstrip())
    if end is not None and end.row == place.location.row:
        last = min(last, end.column - 1)
    elif end is None:
        last = min(last, column + 1)
    if not indent <= column < last or (end is None and column == 0):
        return None
    # What cannot be shown as it is takes more room than it has in the file.
    return len(visible(line[indent:column])), len(visible(line[indent:last]))


def _needs(row: _Row, label_width: int, source_width: int) -> int:
    source = max(source_width, cells(row.source))
    return label_width + 6 + source + (2 + cells(row.message) if row.message else 0)


def _cropped(row: _Row, width: int) -> _Row:
    """Cut a source line that is too long, so that what is marked stays in sight."""
    width = max(width, _LEAST_SOURCE)
    source = row.source
    if cells(source) <= width:
        return row
    begin, end = row.carets or (0, 0)
    start = 0 if cells(source[:end]) < width else max(0, begin - width // 4)
    window = _head(source[start:], width)
    stop = start + len(window)
    if start:
        window = "…" + _head(window[1:], width - 1)
    if stop < len(source):
        window = _head(window, width - 1) + "…"
    carets = None if row.carets is None else (begin - start, min(end - start, len(window)))
    return row._replace(source=window, carets=carets)


def _head(text: str, width: int) -> str:
    """Return as much of the start of a text as fits."""
    if text.isascii():
        return text[:width]
    while cells(text) > width:
        text = text[:-1]
    return text


def _wrapped(line: Line, width: int | None, indent: str) -> list[Line]:
    """Break a line at blanks; what comes below is indented."""
    text = "".join(part.text for part in line)
    if width is None or cells(text) <= width:
        return [line]
    broken = textwrap.wrap(
        text,
        max(width, len(indent) + _LEAST_SOURCE),
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )
    ends = []
    total = 0
    for part in line:
        total += len(part.text)
        ends.append((total, part.role))
    lines: list[Line] = []
    at = 0
    for number, piece in enumerate(broken):
        own = piece if number == 0 else piece[len(indent) :]
        at = text.index(own, at)
        parts = [Part(indent, Role.GUTTER)] if number else []
        for end, role in ends:
            if own and end > at:
                parts.append(Part(own[: end - at], role))
                own = own[end - at :]
                at += len(parts[-1].text)
        lines.append(tuple(parts))
    return lines


def _flowed(items: list[tuple[Part, Part]], width: int | None, indent: str) -> list[Line]:
    """Set items side by side, and below each other where the columns are used up."""
    lines: list[list[Part]] = []
    used = 0
    for item in items:
        size = sum(cells(part.text) for part in item)
        if lines and (width is None or used + 2 + size <= width):
            lines[-1] += [Part("  "), *item]
            used += 2 + size
        else:
            lines.append([Part(indent), *item])
            used = len(indent) + size
    return [tuple(line) for line in lines]


def _left(text: str, width: int) -> str:
    return " " * (width - cells(text)) + text


def _right(text: str, width: int) -> str:
    return text + " " * (width - cells(text))


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")

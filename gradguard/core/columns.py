"""The one place where the interpreter's byte offsets become the columns that people count."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from gradguard.core.findings import Location, Place, source_line

__all__ = ["Span", "column", "place_of", "span_of"]

Span = tuple[int, int, int | None, int | None]
"""Row and offset of the start and of the end; rows count from 1, offsets are in bytes from 0."""


def column(line: str, offset: int) -> int:
    """Return the column, in characters from 1, of a byte of a line of UTF-8.

    Args:
        line: The line; where it is not known, an empty one, and each byte counts as a character.
        offset: The byte, counted from 0.

    Example:
        >>> column("é = x", len("é = ".encode()))
        5
    """
    if not line or line.isascii():
        return offset + 1
    return len(line.encode("utf-8", "surrogatepass")[:offset].decode("utf-8", "ignore")) + 1


def span_of(node: ast.expr | ast.stmt) -> Span:
    """Return where a node of a syntax tree stands."""
    return node.lineno, node.col_offset, node.end_lineno, node.end_col_offset


def place_of(filename: str, span: Span, lines: Sequence[str] | None = None) -> Place:
    """Return what the interpreter says of a stretch of source as a place.

    Args:
        filename: The file.
        span: Where the stretch starts and ends.
        lines: What the file holds; read from it where that is not given.
    """

    def line(row: int) -> str:
        if lines is None:
            return source_line(filename, row)
        return lines[row - 1] if row <= len(lines) else ""

    row, offset, end_row, end_offset = span
    end = None
    if end_row is not None and end_offset is not None:
        end = Location(end_row, column(line(end_row), end_offset))
    return Place(filename, Location(row, column(line(row), offset)), end)

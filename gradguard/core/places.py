"""Where things stand in source."""

from __future__ import annotations

import linecache
from dataclasses import dataclass

__all__ = ["UNKNOWN_PLACE", "Location", "Place", "source_line"]


@dataclass(frozen=True, slots=True)
class Location:
    """A row and a column in a file, both counted from 1."""

    row: int
    column: int


@dataclass(frozen=True, slots=True)
class Place:
    """A stretch of source: a file and where in it something starts and ends."""

    filename: str
    location: Location
    end_location: Location | None = None

    @property
    def line(self) -> str:
        """The source line the place starts on, as it stands; empty if it cannot be read."""
        return source_line(self.filename, self.location.row)

    @property
    def source(self) -> str:
        """The source line the place starts on, without indentation; empty if it cannot be read."""
        return self.line.strip()


def source_line(filename: str, row: int) -> str:
    """Return a line of a file as it stands; empty if it cannot be read."""
    try:
        return linecache.getline(filename, row)
    except ValueError:  # A name that no file can have.
        return ""


UNKNOWN_PLACE = Place("<unknown>", Location(1, 1))

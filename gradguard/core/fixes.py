"""What to change in a file so that a finding goes away: edits, and how sure they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gradguard.core.places import Location

__all__ = ["Applicability", "Edit", "Fix", "edited"]


class Applicability(StrEnum):
    """Whether a fix may be applied unseen."""

    SAFE = "safe"
    UNSAFE = "unsafe"


@dataclass(frozen=True, slots=True)
class Edit:
    """A stretch of a file and what is to stand there instead; nothing is taken out if it is empty.

    Attributes:
        content: What is to stand there.
        location: Where the stretch begins.
        end_location: Where it ends.
    """

    content: str
    location: Location
    end_location: Location

    def to_dict(self) -> dict[str, Any]:
        """Return the edit as plain data with Ruff's keys."""
        return {
            "content": self.content,
            "location": {"row": self.location.row, "column": self.location.column},
            "end_location": {"row": self.end_location.row, "column": self.end_location.column},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Edit:
        """Return the edit that :meth:`to_dict` has made plain data of."""
        return cls(data["content"], Location(**data["location"]), Location(**data["end_location"]))


@dataclass(frozen=True, slots=True)
class Fix:
    """Edits of one file that make a finding go away.

    Attributes:
        applicability: Safe if no number of the training changes.
        message: What is done.
        edits: The edits, which do not overlap, in the order of their places.
    """

    applicability: Applicability
    message: str
    edits: tuple[Edit, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the fix as plain data with Ruff's keys."""
        return {
            "applicability": str(self.applicability),
            "message": self.message,
            "edits": [edit.to_dict() for edit in self.edits],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Fix:
        """Return the fix that :meth:`to_dict` has made plain data of."""
        edits = tuple(Edit.from_dict(edit) for edit in data["edits"])
        return cls(Applicability(data["applicability"]), data["message"], edits)


_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")


def edited(text: str, edits: Iterable[Edit]) -> str:
    r"""Return ``text`` with edits made; all else stays as it is, line ends included.

    Example:
        >>> edit = Edit(".detach()", Location(2, 2), Location(2, 2))
        >>> edited("x = 1\r\ny\r\n", [edit])
        'x = 1\r\ny.detach()\r\n'
    """
    starts = [found.start() for found in _LINE.finditer(text)]

    def offset(place: Location) -> int:
        return starts[place.row - 1] + place.column - 1

    for edit in sorted(edits, key=lambda edit: offset(edit.location), reverse=True):
        begin, end = offset(edit.location), offset(edit.end_location)
        text = text[:begin] + edit.content + text[end:]
    return text

"""What gradguard reports: places in source, traces through them, and findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gradguard.core.fixes import Fix
from gradguard.core.layout import finding_lines, plain, rich_lines
from gradguard.core.notebook import notebook_finding
from gradguard.core.places import UNKNOWN_PLACE, Location, Place, source_line

__all__ = [
    "UNKNOWN_PLACE",
    "Confidence",
    "Finding",
    "IsolationError",
    "IsolationWarning",
    "Location",
    "Place",
    "Severity",
    "TraceStep",
    "source_line",
]


class Severity(StrEnum):
    """How much a finding matters: what it says follows from the consequence it has."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Confidence(StrEnum):
    """How sure a finding is: what was not seen, only assumed, lowers it."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"

    def reaches(self, least: Confidence) -> bool:
        """Say whether this is at least as sure as ``least``.

        Example:
            >>> Confidence.MEDIUM.reaches(Confidence.LOW)
            True
        """
        ranks = list(Confidence)
        return ranks.index(self) >= ranks.index(least)


@dataclass(frozen=True, slots=True)
class TraceStep:
    """One line of the path by which a gradient went: a place and what happened there."""

    place: Place
    message: str

    @property
    def filename(self) -> str:
        """The file the step is in."""
        return self.place.filename

    @property
    def location(self) -> Location:
        """Where in the file the step is."""
        return self.place.location

    def to_dict(self) -> dict[str, Any]:
        """Return the step as plain data, in the keys that findings use."""
        return {"filename": self.filename, **_span(self.place), "message": self.message}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TraceStep:
        """Return the step that :meth:`to_dict` has made plain data of."""
        return cls(_place(data), data["message"])


@dataclass(frozen=True, slots=True)
class Finding:
    """One root cause, found once: its code, its consequence and the path that shows it.

    Attributes:
        code: Stable code such as ``GG101``; ``gradguard rule CODE`` explains it.
        name: Readable name of the code, such as ``leaking-loss``.
        severity: What the consequence is worth.
        message: One sentence that names the loss and the model.
        place: Where to look first.
        loss: The loss it is about, if one.
        model: The model it is about, if one.
        trace: Steps from where the model's output was made to the optimizer step.
        help: What to write instead, if that is known.
        count: How often it was seen.
        confidence: How sure it is.
        fix: What makes it go away, if that is one plain change.
    """

    code: str
    name: str
    severity: Severity
    message: str
    place: Place
    loss: str | None = None
    model: str | None = None
    trace: tuple[TraceStep, ...] = ()
    help: str | None = field(default=None)
    count: int = 1
    confidence: Confidence = Confidence.HIGH
    fix: Fix | None = None

    @property
    def filename(self) -> str:
        """The file the finding points to."""
        return self.place.filename

    @property
    def location(self) -> Location:
        """The row and column the finding points to, counted from 1."""
        return self.place.location

    @property
    def end_location(self) -> Location | None:
        """Where the expression that the finding points to ends, if known."""
        return self.place.end_location

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as plain data with the keys that Ruff's JSON output uses."""
        return {
            "code": self.code,
            "name": self.name,
            "severity": str(self.severity),
            "confidence": str(self.confidence),
            "message": self.message,
            "filename": self.filename,
            **_span(self.place),
            "loss": self.loss,
            "model": self.model,
            "count": self.count,
            "help": self.help,
            "fix": self.fix.to_dict() if self.fix is not None else None,
            "url": None,
            "trace": [step.to_dict() for step in self.trace],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Finding:
        """Return the finding that :meth:`to_dict` has made plain data of."""
        return cls(
            data["code"],
            data["name"],
            Severity(data["severity"]),
            data["message"],
            _place(data),
            data["loss"],
            data["model"],
            tuple(TraceStep.from_dict(step) for step in data["trace"]),
            data["help"],
            data["count"],
            Confidence(data["confidence"]),
            Fix.from_dict(data["fix"]) if data["fix"] is not None else None,
        )

    def __str__(self) -> str:
        """Render the finding as a compiler would: headline, source lines of the trace, help."""
        return plain(finding_lines(self))

    def __rich_console__(self, _: Any, options: Any) -> Iterator[Any]:
        """Render the finding for a rich console, within its width."""
        return rich_lines(finding_lines(self, options.max_width))

    def _repr_html_(self) -> str:
        """Render the finding for a notebook."""
        return notebook_finding(self)


class IsolationError(Exception):
    """Raised when a loss reaches a model it must not train, or misses one it must.

    Attributes:
        findings: What was found, most severe first.
    """

    def __init__(self, findings: tuple[Finding, ...] | list[Finding]) -> None:
        """Carry ``findings``; the message is their rendering."""
        severities = list(Severity)
        self.findings: tuple[Finding, ...] = tuple(
            sorted(findings, key=lambda finding: severities.index(finding.severity))
        )
        super().__init__("\n" + "\n".join(str(finding) for finding in self.findings))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by findings and notes, so that the error crosses process boundaries whole."""
        return type(self), (self.findings,), self.__dict__


class IsolationWarning(UserWarning):
    """Issued for a finding when a guard only warns."""


def _span(place: Place) -> dict[str, Any]:
    end = place.end_location
    return {
        "location": {"row": place.location.row, "column": place.location.column},
        "end_location": {"row": end.row, "column": end.column} if end else None,
    }


def _place(data: Mapping[str, Any]) -> Place:
    end = data["end_location"]
    return Place(data["filename"], Location(**data["location"]), Location(**end) if end else None)

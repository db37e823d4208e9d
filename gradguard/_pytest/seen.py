"""What tests were seen to do: told by each test as plain data, summed up over all of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import gradguard
from gradguard.core.findings import Finding, Severity
from gradguard.core.flow import FlowMatrix
from gradguard.core.timeline import Timeline

__all__ = ["Seen", "Summary", "Told", "listed"]


@dataclass(frozen=True, slots=True)
class Seen:
    """What one test did.

    Attributes:
        matrix: Which loss reached which model.
        findings: What was found.
        fails: Whether the findings are what made the test fail.
        trouble: Why the test could not be judged, if it could not.
        timeline: The first events of its ledger, where a report shows them.
    """

    matrix: FlowMatrix
    findings: tuple[Finding, ...] = ()
    fails: bool = False
    trouble: str | None = None
    timeline: Timeline | None = None

    def pack(self) -> dict[str, Any]:
        """Return it as plain data, which crosses from process to process."""
        return {
            "flow": self.matrix.to_dict(),
            "findings": [finding.to_dict() for finding in self.findings],
            "fails": self.fails,
            "trouble": self.trouble,
            "timeline": self.timeline and self.timeline.to_dict(),
        }

    @classmethod
    def unpack(cls, data: Mapping[str, Any]) -> Seen:
        """Return what :meth:`pack` has made plain data of."""
        return cls(
            FlowMatrix.from_dict(data["flow"]),
            tuple(Finding.from_dict(finding) for finding in data["findings"]),
            data["fails"],
            data["trouble"],
            data["timeline"] and Timeline.from_dict(data["timeline"]),
        )


@dataclass(slots=True)
class Told:
    """One finding, and the tests it was made in.

    Attributes:
        finding: The finding, counted over all tests.
        tests: The tests.
        shown: Whether the failure of a test shows it already.
    """

    finding: Finding
    tests: list[str] = field(default_factory=list)
    shown: bool = False


class Summary:
    """What a session of tests was seen to do.

    Args:
        tests: What each test did, by its node id.

    Attributes:
        tests: The same.
        told: The findings, the most severe first.
        matrix: Which loss reached which model, over all tests.
        troubles: Pairs of a test that could not be judged and the reason.
    """

    def __init__(self, tests: Mapping[str, Seen]) -> None:
        """Sum up."""
        self.tests = dict(tests)
        self.matrix = FlowMatrix.merged(seen.matrix for seen in tests.values())
        self.troubles = [(test, seen.trouble) for test, seen in tests.items() if seen.trouble]
        causes: dict[tuple[object, ...], Told] = {}
        for test, seen in tests.items():
            for finding in seen.findings:
                cause = (finding.code, finding.place, finding.message)
                told = causes.get(cause)
                if told is None:
                    told = causes[cause] = Told(finding)
                else:
                    count = told.finding.count + finding.count
                    told.finding = replace(told.finding, count=count)
                told.tests.append(test)
                told.shown |= seen.fails
        ranks = list(Severity)
        self.told = sorted(causes.values(), key=lambda one: ranks.index(one.finding.severity))

    @property
    def findings(self) -> list[Finding]:
        """The findings, the most severe first."""
        return [told.finding for told in self.told]

    @property
    def example(self) -> tuple[str, Timeline] | None:
        """The test whose ledger tells most: that of the first finding, else the first with one."""
        for test in (*(test for told in self.told for test in told.tests), *self.tests):
            timeline = self.tests[test].timeline
            if timeline is not None and timeline.entries:
                return test, timeline
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {
            "version": gradguard.__version__,
            "findings": [{**told.finding.to_dict(), "tests": told.tests} for told in self.told],
            "flow": self.matrix.to_dict(),
            "tests": [
                {
                    "test": test,
                    "codes": sorted({finding.code for finding in seen.findings}),
                    "flow": seen.matrix.to_dict(),
                }
                for test, seen in self.tests.items()
            ],
            "not_judged": [{"test": test, "reason": reason} for test, reason in self.troubles],
        }


def listed(tests: Collection[str]) -> str:
    """Name tests, the first of many.

    Example:
        >>> listed(["a", "b", "c", "d"])
        'a, b and 2 more tests'
    """
    every = list(tests)
    # One more is named sooner than counted.
    kept = every if len(every) <= 3 else every[:2]
    more = len(every) - len(kept)
    return ", ".join(kept) + (f" and {more} more tests" if more else "")

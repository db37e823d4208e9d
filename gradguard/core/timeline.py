"""The first events of a ledger, kept so that they can be shown in their order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from gradguard.core.events import Account, Backward, Clear, Event, Restart, Spend
from gradguard.core.findings import UNKNOWN_PLACE, Location, Place
from gradguard.core.judgement import Kind, judge
from gradguard.core.policy import Policy

__all__ = ["Entry", "Happening", "Timeline"]

_WORST: Final = (Kind.OPEN, Kind.MEANT, Kind.SPILL, Kind.LEAK)


class Happening(Enum):
    """What an event does to accounts."""

    DEPOSIT = "deposit"
    CLEAR = "clear"
    SPEND = "spend"
    RESTART = "restart"


@dataclass(frozen=True, slots=True)
class Entry:
    """One event.

    Attributes:
        what: What it does.
        name: The loss that deposits or the optimizer that spends; empty for the others.
        models: The models it concerns, and for a deposit how it relates to the policy.
        place: Where in the program it happened, if known.
    """

    what: Happening
    name: str
    models: dict[str, Kind | None]
    place: Place | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the event as plain data."""
        at = self.place
        return {
            "what": self.what.value,
            "name": self.name,
            "models": {model: kind and kind.value for model, kind in self.models.items()},
            "at": at and [at.filename, at.location.row, at.location.column],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Entry:
        """Return the event that :meth:`to_dict` has made plain data of."""
        at = data["at"]
        return cls(
            Happening(data["what"]),
            data["name"],
            {model: kind and Kind(kind) for model, kind in data["models"].items()},
            at and Place(at[0], Location(at[1], at[2])),
        )


class Timeline:
    """The first events of a ledger.

    Assigned to :attr:`Ledger.timeline`, it is told every event until it is full.

    Args:
        policy: What each loss may train.
        models: The names of the models, in the order to show them in.
        limit: How many events to keep.

    Attributes:
        entries: The events, oldest first; clears that follow each other are one.

    Example:
        >>> timeline = Timeline(Policy.parse({"loss": "critic"}), ["critic"], limit=2)
        >>> timeline.add(Clear(frozenset({Account(("critic",))})))
        >>> [entry.what.value for entry in timeline.entries]
        ['clear']
    """

    def __init__(
        self, policy: Policy, models: list[str] | tuple[str, ...], limit: int = 48
    ) -> None:
        """Begin empty."""
        self.models = tuple(models)
        self.entries: list[Entry] = []
        self._policy = policy
        self._limit = limit
        self._steps: dict[str, Place] = {}

    def to_dict(self) -> dict[str, Any]:
        """Return what it keeps as plain data."""
        return {
            "models": list(self.models),
            "entries": [entry.to_dict() for entry in self.entries],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Timeline:
        """Return a full timeline of what :meth:`to_dict` has made plain data of."""
        timeline = cls(Policy({}), data["models"], limit=0)
        timeline.entries = [Entry.from_dict(entry) for entry in data["entries"]]
        return timeline

    @property
    def full(self) -> bool:
        """Whether further events are of no use."""
        return len(self.entries) >= self._limit

    def add(self, event: Event) -> None:
        """Take one event, unless there are enough."""
        if self.full:
            return
        match event:
            case Backward():
                self._deposit(event)
            case Clear() if event.accounts:
                self._clear(event)
            case Spend() if event.accounts:
                known = self._steps.get(event.optimizer)
                place = known if event.place is UNKNOWN_PLACE else event.place
                if place is not None:
                    self._steps[event.optimizer] = place
                models = _owners(event.accounts)
                self.entries.append(Entry(Happening.SPEND, event.optimizer, models, place))
            case Restart():
                self.entries.append(Entry(Happening.RESTART, "", {}))
            case _:
                """Nothing lies there, so nothing changes."""

    def _deposit(self, event: Backward) -> None:
        rule = self._policy.rule(event.loss)
        models: dict[str, Kind | None] = {}
        for one in judge(rule, self.models, event).deposits:
            for owner in one.deposit.account.owners:
                before = models.get(owner) or Kind.OPEN
                models[owner] = max(before, one.kind, key=_WORST.index)
        self.entries.append(Entry(Happening.DEPOSIT, event.loss, models, event.place))

    def _clear(self, event: Clear) -> None:
        models = _owners(event.accounts)
        last = self.entries[-1] if self.entries else None
        if last is not None and last.what is Happening.CLEAR:
            self.entries.pop()
            models = {**last.models, **models}
            self.entries.append(Entry(Happening.CLEAR, "", models, last.place or event.place))
        else:
            self.entries.append(Entry(Happening.CLEAR, "", models, event.place))


def _owners(accounts: frozenset[Account]) -> dict[str, Kind | None]:
    owners = sorted({owner for account in accounts for owner in account.owners})
    return dict.fromkeys(owners)

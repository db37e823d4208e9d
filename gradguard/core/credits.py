"""What lies in the accounts: which loss put it there, when, and who has spent it since."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from gradguard.core.events import Account, Backward
from gradguard.core.findings import Place
from gradguard.core.judgement import Judged, Kind
from gradguard.core.verdicts import Saw

__all__ = ["Credit", "Credits", "Snapshot"]

_Key = tuple[str, int]
Snapshot = tuple[Any, ...]
"""What lies in the accounts, as a value; points in time are told apart by their order only."""


@dataclass(slots=True)
class Credit:
    """What one loss has put into one account since the last clear.

    Attributes:
        judged: The last deposit.
        loss: The loss.
        place: Where its last backward was called.
        since: When the first deposit came.
        latest: When the last deposit came.
        fresh: When the first deposit came that no step has spent; ``None`` if all are spent.
        assumed: True if no deposit was looked at.
        spent_by: The optimizers that have stepped with it.
    """

    judged: Judged
    loss: str
    place: Place
    since: int
    latest: int
    fresh: int | None
    assumed: bool
    spent_by: set[str] = field(default_factory=set)

    def consumed(self, optimizer: str, first_meant: int | None) -> Saw | None:
        """Say what it means that a step consumes this.

        Args:
            optimizer: Who steps.
            first_meant: When the first deposit came that is meant for this step, if one did.
        """
        match self.judged.kind:
            case _ if self.assumed:
                return None
            case Kind.LEAK:
                return Saw.LEAK_APPLIED
            case Kind.SPILL:
                stale = first_meant is not None and self.latest < first_meant
                return Saw.SPILL_STALE if stale else Saw.SPILL_APPLIED
            case Kind.MEANT if optimizer in self.spent_by:
                return Saw.OWN_STALE
            case _:
                return None


class Credits:
    """All credits, by account.

    Attributes:
        now: The time, which goes on by one at every event.
    """

    def __init__(self) -> None:
        """Begin with empty accounts."""
        self.now = 0
        self._lying: dict[Account, dict[_Key, Credit]] = {}
        self._undo: list[tuple[Credit, int | None, bool]] = []

    def __contains__(self, account: Account) -> bool:
        """Say whether something lies in an account."""
        return account in self._lying

    def of(self, account: Account) -> Iterable[Credit]:
        """Return what lies in an account."""
        return self._lying.get(account, {}).values()

    def holding(self, accounts: Iterable[Account]) -> list[Account]:
        """Return those of ``accounts`` in which something lies."""
        return [account for account in accounts if account in self._lying]

    def stale(self, account: Account) -> bool:
        """Say whether something foreign or already spent lies in an account."""
        for credit in self._lying.get(account, {}).values():
            if credit.spent_by or credit.judged.kind in (Kind.SPILL, Kind.LEAK):
                return True
        return False

    def put(self, one: Judged, event: Backward) -> None:
        """Take a deposit in."""
        now = self.now
        lying = self._lying.setdefault(one.deposit.account, {})
        key = (event.loss, id(one.kind))
        credit = lying.get(key)
        if credit is None:
            lying[key] = Credit(one, event.loss, event.place, now, now, now, event.assumed)
            return
        credit.judged, credit.place, credit.latest = one, event.place, now
        credit.assumed &= event.assumed
        if credit.fresh is None:
            credit.fresh = now

    def clear(self, accounts: Iterable[Account]) -> None:
        """Empty accounts."""
        for account in accounts:
            self._lying.pop(account, None)

    def spend(self, optimizer: str, accounts: Iterable[Account]) -> list[Credit]:
        """Let a step spend what lies in accounts; return that."""
        self._undo = []
        for account in accounts:
            for credit in self.of(account):
                self._undo.append((credit, credit.fresh, optimizer in credit.spent_by))
                credit.spent_by.add(optimizer)
                credit.fresh = None
        return [credit for credit, _, _ in self._undo]

    def refund(self, optimizer: str) -> None:
        """Take back the last :meth:`spend`."""
        for credit, fresh, before in self._undo:
            credit.fresh = fresh
            if not before:
                credit.spent_by.discard(optimizer)
        self._undo = []

    def fresh(self, account: Account) -> bool:
        """Say whether all that lies in an account was meant and nobody has spent any of it."""
        for credit in self._lying.get(account, {}).values():
            if credit.judged.kind is not Kind.MEANT or credit.spent_by:
                return False
        return True

    def snapshot(self) -> Snapshot:
        """Return what lies in the accounts."""
        credits_ = [credit for lying in self._lying.values() for credit in lying.values()]
        times = {time for one in credits_ for time in (one.since, one.latest, one.fresh)}
        rank: dict[int | None, int | None] = {
            time: number for number, time in enumerate(sorted(filter(None, times)), 1)
        }
        rank[None] = None
        return tuple(
            (
                account,
                tuple(
                    (
                        key,
                        _Same(credit.judged),
                        credit.loss,
                        credit.place,
                        rank[credit.since],
                        rank[credit.latest],
                        rank[credit.fresh],
                        credit.assumed,
                        frozenset(credit.spent_by),
                    )
                    for key, credit in lying.items()
                ),
            )
            for account, lying in self._lying.items()
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Let lie in the accounts what a snapshot says."""
        self._lying = {}
        self._undo = []
        for account, entries in snapshot:
            lying = self._lying[account] = {}
            for key, judged, loss, place, since, latest, fresh, assumed, spent_by in entries:
                lying[key] = Credit(
                    judged.it, loss, place, since, latest, fresh, assumed, set(spent_by)
                )
                self.now = max(self.now, latest)

    def split(self, parts: Callable[[Account], Iterable[Account]]) -> None:
        """Move what lies in accounts to the parts into which each has fallen."""
        old, self._lying = self._lying, {}
        for account, entries in old.items():
            for part in parts(account):
                lying = self._lying.setdefault(part, {})
                for key, credit in entries.items():
                    lying.setdefault(key, replace(credit, spent_by=set(credit.spent_by)))


class _Same:
    """Something that equals nothing but itself, as a part of a value."""

    __slots__ = ("it",)

    def __init__(self, it: Judged) -> None:
        self.it = it

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.it is other.it

    def __hash__(self) -> int:
        return id(self.it)

"""The loop, learned by heart: what events that came before do to the accounts when they come again.

A training loop brings the accounts into the same few states at every turn. From each state the
same event leads to the same next state, so once that was worked out, following it is one look-up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gradguard.core.cases import Case, Cases
from gradguard.core.credits import Credits, Snapshot
from gradguard.core.events import Account, Backward, Clear, Event, Spend
from gradguard.core.hunger import Hunger, Hungers
from gradguard.core.judgement import Judged, Judgement, Kind

__all__ = ["Routine"]

_REMEMBERED = 256
_STATES, _PATIENCE = 64, 8


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a backward does whenever it comes again as it is.

    Attributes:
        event: The backward.
        deposits: What it puts where.
        kinds: What it says of accounts.
        cases: What is seen once more.
        fed: The hunger that is fed.
    """

    event: Backward
    deposits: tuple[Judged, ...]
    kinds: dict[Account, Kind]
    cases: list[Case]
    fed: list[Hunger]


@dataclass(slots=True, eq=False)
class _Effect:
    """What events do besides changing what lies in the accounts, and what they rest on.

    Attributes:
        full: Accounts in which something lies, as long as their gradients are really there.
        bare: Accounts that hold nothing, as long as no gradient is there.
        runs: The backwards that come again.
    """

    full: list[Account] = field(default_factory=list)
    bare: list[Account] = field(default_factory=list)
    runs: list[_Plan] = field(default_factory=list)


class _State:
    """What lies in the accounts at one point of the loop, and where events lead from there."""

    __slots__ = ("snapshot", "ways")

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.ways: dict[int, _Way] = {}


@dataclass(slots=True, eq=False)
class _Way:
    """Where events lead from a state. They are known by identity, and so kept."""

    events: Sequence[Event]
    effect: _Effect
    to: _State


class Routine:
    """What a loop does at every turn.

    Args:
        accounts: What lies in the accounts. While the routine is followed it is out of date:
            :meth:`leave` brings it up to date.
        cases: What was found.
        hungers: What losses have missed.
        last: For each loss its last backward.
        seen: For each loss the accounts it has reached, and how.
    """

    def __init__(
        self,
        accounts: Credits,
        cases: Cases,
        hungers: Hungers,
        last: dict[str, Backward],
        seen: dict[str, dict[Account, Kind]],
    ) -> None:
        """Begin with nothing learned."""
        self._accounts, self._cases, self._hungers = accounts, cases, hungers
        self._last, self._seen = last, seen
        self._plans: dict[int, _Plan] = {}
        self._stepped: set[str] = set()
        self._states: dict[Snapshot, _State] = {}
        self._at: _State | None = None
        self._ahead = False
        self._patience = _PATIENCE

    # Following

    def again(self, events: Sequence[Event], empty: Callable[[Account], bool]) -> bool:
        """Take in events if they do what they, or their like, have done before.

        Args:
            events: The losses of one backward pass, or a clear, or a step; known by identity.
            empty: Says of an account whether its gradients are gone.

        Returns:
            False if the events have to be posted, since they may show something new. Then nothing
            has happened, but that accounts whose gradients are gone were cleared.
        """
        at = self._at
        way = at.ways.get(id(events)) if at is not None else None
        if way is None:
            return self._learn(events, empty)
        effect = way.effect
        for account in effect.full:
            if empty(account):
                return self._learn(events, empty)
        for account in effect.bare:
            if not empty(account):
                return self._learn(events, empty)
        self._at, self._ahead = way.to, True
        self._note(effect)
        return True

    def leave(self) -> None:
        """Bring the accounts up to date, for events that may do anything."""
        if self._ahead and self._at is not None:
            self._accounts.restore(self._at.snapshot)
        self._at, self._ahead = None, False

    # Learning

    def plan(self, event: Backward, judgement: Judgement) -> None:
        """Keep what a backward that was just posted does, if it does the same again."""
        cases: dict[tuple[str, str, str], Case] = {}
        fed: list[Hunger] = []
        if not event.assumed:
            if judgement.questions or any(missed for _, missed in judgement.hungry):
                return
            for one in judgement.deposits:
                if one.accusation is not None:
                    case = cases[one.accusation.key] = self._cases.by_cause[one.accusation.key]
                    if case.rank != one.accusation.rank:
                        return
            fed = [self._hungers.of(event.loss, model) for model, _ in judgement.hungry]
        if len(self._plans) >= _REMEMBERED:
            self._plans.clear()
        deposits = judgement.deposits
        kinds: dict[Account, Kind] = {
            one.deposit.account: one.kind for one in deposits if one.kind is not Kind.OPEN
        }
        self._plans[id(event)] = _Plan(event, deposits, kinds, list(cases.values()), fed)

    def stepped(self, optimizer: str) -> None:
        """Take note of an optimizer whose step was posted."""
        self._stepped.add(optimizer)

    def forget(self) -> None:
        """Forget everything: the events will not come again."""
        self.leave()
        self._plans.clear()
        self._stepped.clear()
        self._let_go()
        self._patience = _PATIENCE

    def _learn(self, events: Sequence[Event], empty: Callable[[Account], bool]) -> bool:
        """Take events in the long way, and remember where they have led."""
        effect = _Effect()
        known = all(self._is_known(event, effect) for event in events)
        loops = known and not (self._hungers.pending or self._cases.open)
        before = (self._at or self._here()) if loops else None
        self.leave()
        if not known or not all(self._can(event, empty, effect) for event in events):
            return False
        self._accounts.now += 1
        for event in events:
            self._do(event)
        self._note(effect)
        if before is not None:
            self._at = self._here()
            if self._at is not None:
                before.ways[id(events)] = _Way(events, effect, self._at)
        return True

    def _is_known(self, event: Event, effect: _Effect) -> bool:
        """Say whether an event does nothing that only a posting can show."""
        match event:
            case Backward():
                plan = self._plans.get(id(event))
                if plan is None or plan.event is not event:
                    return False
                effect.runs.append(plan)
                return True
            case Spend():
                return event.optimizer in self._stepped and not (
                    self._hungers.pending or self._cases.open
                )
            case _:
                return isinstance(event, Clear)

    def _can(self, event: Event, empty: Callable[[Account], bool], effect: _Effect) -> bool:
        """Say whether what lies in the accounts lets an event pass, clearing what is gone."""
        match event:
            case Backward():
                return self._can_deposit(self._plans[id(event)], empty, effect)
            case Spend():
                return self._can_spend(event, empty, effect)
            case _:
                return True

    def _can_deposit(self, plan: _Plan, empty: Callable[[Account], bool], effect: _Effect) -> bool:
        accounts = self._accounts
        for one in plan.deposits:
            account = one.deposit.account
            if account not in accounts:
                continue
            if account not in effect.full:
                if empty(account):
                    effect.bare.append(account)
                    accounts.clear((account,))
                    continue
                effect.full.append(account)
            if one.kind is Kind.MEANT and accounts.stale(account):
                # Whether that is really left over has to be looked at.
                return False
        return True

    def _can_spend(self, event: Spend, empty: Callable[[Account], bool], effect: _Effect) -> bool:
        accounts = self._accounts
        for account in event.accounts:
            if empty(account):
                effect.bare.append(account)
                accounts.clear((account,))
                continue
            effect.full.append(account)
            if account not in accounts or not accounts.fresh(account):
                return False
        return True

    def _note(self, effect: _Effect) -> None:
        """Take note of backwards that have come again."""
        for plan in effect.runs:
            event = plan.event
            if self._last.get(event.loss) is not event and not event.assumed:
                self._last[event.loss] = event
                self._seen[event.loss].update(plan.kinds)
            for case in plan.cases:
                case.count += 1
            for hunger in plan.fed:
                hunger.feed()

    def _do(self, event: Event) -> None:
        accounts = self._accounts
        match event:
            case Backward():
                for one in self._plans[id(event)].deposits:
                    accounts.put(one, event)
            case Spend():
                accounts.spend(event.optimizer, event.accounts)
            case Clear():
                accounts.clear(event.accounts)

    def _here(self) -> _State | None:
        """Return the state that the accounts are in now."""
        if not self._patience:
            return None
        snapshot = self._accounts.snapshot()
        state = self._states.get(snapshot)
        if state is None:
            if len(self._states) >= _STATES:
                # No loop that comes back to where it was.
                self._let_go()
                self._patience -= 1
            state = self._states[snapshot] = _State(snapshot)
        return state

    def _let_go(self) -> None:
        for state in self._states.values():
            state.ways.clear()
        self._states.clear()

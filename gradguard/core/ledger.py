"""The ledger: decides from events alone what leaked, spilled, was applied, stale or starved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from gradguard.core.cases import Case, Cases, Sighting
from gradguard.core.events import (
    Account,
    Backward,
    Clear,
    Deposit,
    Event,
    Evidence,
    Restart,
    Spend,
)
from gradguard.core.findings import UNKNOWN_PLACE, Finding, Place, TraceStep
from gradguard.core.judgement import Accusation, Judged, Judgement, Kind, judge
from gradguard.core.policy import Policy
from gradguard.core.timeline import Timeline
from gradguard.core.verdicts import Saw

__all__ = ["Ledger"]

AGAIN_AFTER = 10
"""A loss that has reached a model before is starved only after so many misses in a row."""

_REMEMBERED = 256


@dataclass(slots=True)
class _Entry:
    """What one loss has put into one account since the last clear."""

    judged: Judged
    loss: str
    place: Place
    since: int
    latest: int
    fresh: int | None
    assumed: bool
    spent_by: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Hunger:
    """How often a loss has missed a model that it must train."""

    misses: int = 0
    judged: bool = False
    pending: bool = False
    place: Place = UNKNOWN_PLACE

    def settle(self) -> None:
        """Take note that the misses so far have been judged."""
        self.pending, self.judged, self.misses = False, True, 0


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a backward does to the ledger whenever it comes again as it is."""

    event: Backward
    entries: list[tuple[Account, tuple[str, int], Judged]]
    cases: list[Case]
    fed: list[_Hunger]


class Ledger:
    """Keeps the accounts of one policy and concludes findings from events.

    Args:
        policy: What each loss may train.
        models: The names of all models, most specific first where one holds another.
        absence: Makes the trace of a starved model from the names of loss and model.

    Attributes:
        seen: For each loss the accounts it has reached, and how.
        last: For each loss its last backward.
        together: Models each of which some loss must reach by the end.
        timeline: Is told every event until it is full, if there is one.

    Example:
        >>> ledger = Ledger(Policy.parse({"critic_loss": "critic"}), ["critic", "generator"])
        >>> leak = Deposit(Account(("generator",)))
        >>> meant = Deposit(Account(("critic",)))
        >>> [sighting] = ledger.post(Backward("critic_loss", (meant, leak)))
        >>> sighting.finding.code
        'GG101'
    """

    def __init__(
        self,
        policy: Policy,
        models: Sequence[str],
        absence: Callable[[str, str], Evidence] | None = None,
    ) -> None:
        """Open an empty ledger."""
        self.policy = policy
        self.models = tuple(models)
        self.seen: dict[str, dict[Account, Kind]] = {}
        self.last: dict[str, Backward] = {}
        self.together: frozenset[str] = frozenset()
        self.timeline: Timeline | None = None
        self._absence = absence
        self._time = 0
        self._entries: dict[Account, dict[tuple[str, int], _Entry]] = {}
        self._cases = Cases()
        self._hunger: dict[tuple[str, str], _Hunger] = {}
        self._stepped: set[str] = set()
        self._judgements: dict[int, tuple[Backward, Judgement]] = {}
        self._plans: dict[str, _Plan] = {}
        self._known: set[str] = set()
        self._open = False
        self._undo: list[tuple[_Entry, int | None, bool]] = []

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings so far, in the order in which they were first seen, GG102 included."""
        return self._cases.findings

    def post(
        self,
        event: Event,
        *,
        landed: bool = True,
        joint: bool = False,
        stands: Callable[[Accusation], bool] | None = None,
    ) -> list[Sighting]:
        """Take one event and return what it shows.

        Args:
            event: What happened.
            landed: False for a backward that is about to be refused: it is judged and found,
                but nothing is deposited.
            joint: True for a further loss of the same backward pass, which no clear can come
                between.
            stands: Asked of each fresh accusation by a spend whether the gradient is really
                there; if it is not, its account counts as cleared.
        """
        self._time += not joint
        if self.timeline is not None and landed:
            self._remember(event)
        match event:
            case Backward():
                return self._backward(event, landed)
            case Clear():
                for account in event.accounts:
                    self._entries.pop(account, None)
            case Spend():
                return self._spend(event, stands)
            case Restart():
                pass
        return []

    def clear(self, accounts: Iterable[Account]) -> None:
        """Take in that the gradients of accounts were removed or set to zero."""
        self._time += 1
        if self.timeline is not None:
            accounts = frozenset(accounts)
            self._remember(Clear(accounts))
        for account in accounts:
            self._entries.pop(account, None)

    def again(self, event: Backward) -> bool:
        """Take in a backward that is the very event that its loss was the last time.

        Returns:
            False if it has to be posted, since it may show something new.
        """
        plan = self._plans.get(event.loss)
        if plan is None or plan.event is not event:
            return False
        self._time = now = self._time + 1
        if self.timeline is not None:
            self._remember(event)
        entries = self._entries
        for account, key, one in plan.entries:
            lying = entries.setdefault(account, {})
            entry = lying.get(key)
            if entry is None:
                lying[key] = _Entry(one, event.loss, event.place, now, now, now, False)
                continue
            entry.judged, entry.place, entry.latest, entry.assumed = one, event.place, now, False
            if entry.fresh is None:
                entry.fresh = now
        for case in plan.cases:
            case.count += 1
        for hunger in plan.fed:
            hunger.misses, hunger.judged, hunger.pending = 0, True, False
        return True

    def spent(self, optimizer: str, accounts: Iterable[Account]) -> bool:
        """Take in a step that spends what was meant for it, for the first time, and nothing else.

        Returns:
            False if the step is none such and has to be posted.
        """
        if optimizer not in self._known or self._open:
            return False
        found = []
        entries = self._entries
        for account in accounts:
            lying = entries.get(account)
            if lying is None:
                return False
            for entry in lying.values():
                if entry.judged.kind is not Kind.MEANT or entry.spent_by:
                    return False
                found.append(entry)
        for hunger in self._hunger.values():
            if hunger.pending:
                return False
        self._time += 1
        if self.timeline is not None:
            self._remember(Spend(optimizer, frozenset(accounts)))
        for entry in found:
            entry.spent_by.add(optimizer)
            entry.fresh = None
        return True

    def _remember(self, event: Event) -> None:
        if self.timeline is not None:
            self.timeline.add(event)
            if self.timeline.full:
                self.timeline = None

    def refuse(self, event: Spend) -> None:
        """Take back that the step just posted has spent anything: it was not let through."""
        for entry, fresh, before in self._undo:
            entry.fresh = fresh
            if not before:
                entry.spent_by.discard(event.optimizer)
        self._undo = []

    def preview(self, event: Backward | Spend) -> list[Accusation]:
        """Say what ``event`` would show, changing nothing."""
        if isinstance(event, Spend):
            return [accusation for accusation, _ in self._accuse(event)]
        judged = self._judge(event).deposits
        return [one.accusation for one in judged if one.accusation is not None]

    def known(self, accusation: Accusation) -> bool:
        """Say whether the accusation's finding exists already, at this level or a worse one."""
        return self._cases.known(accusation)

    def missing(self, loss: str, reached: Iterable[Account]) -> tuple[str, ...]:
        """Return the models that ``loss`` must train and that own none of ``reached``."""
        rule = self.policy.rule(loss)
        if rule is None:
            return ()
        owners = {owner for account in reached for owner in account.owners}
        return tuple(model for model in rule.required(self.models) if model not in owners)

    def holding(self, accounts: Iterable[Account]) -> list[Account]:
        """Return those of ``accounts`` in which something lies."""
        return [account for account in accounts if account in self._entries]

    def stale(self, accounts: Iterable[Account]) -> list[Account]:
        """Return those of ``accounts`` in which something foreign or already spent lies."""
        return [
            account
            for account in self.holding(accounts)
            if any(
                entry.spent_by or entry.judged.kind in (Kind.SPILL, Kind.LEAK)
                for entry in self._entries[account].values()
            )
        ]

    def meant(self, event: Backward) -> list[Account]:
        """Return the accounts into which ``event`` puts gradient that is meant for them."""
        judged = self._judge(event).deposits
        return [one.deposit.account for one in judged if one.kind is Kind.MEANT]

    def split(self, parts: Callable[[Account], Iterable[Account]], models: Sequence[str]) -> None:
        """Move what lies in accounts to the parts into which each has fallen.

        Args:
            parts: Gives the parts of an account.
            models: The names of all models from now on.
        """
        self.models = tuple(models)
        self._judgements.clear()
        self._plans.clear()
        self._known.clear()
        old, self._entries = self._entries, {}
        for account, entries in old.items():
            for part in parts(account):
                lying = self._entries.setdefault(part, {})
                for key, entry in entries.items():
                    lying.setdefault(key, replace(entry, spent_by=set(entry.spent_by)))

    def end(self) -> list[Sighting]:
        """Judge what could not be judged at a step: models that were starved and never stepped."""
        sightings = [
            self._starved(loss, model, hunger, None)
            for (loss, model), hunger in self._hunger.items()
            if hunger.pending and model not in self._stepped
        ]
        reached = {
            owner for seen in self.seen.values() for account in seen for owner in account.owners
        }
        for model in sorted(self.together - reached) if self.last else ():
            last = next(reversed(self.last.values()))
            sightings.append(self._starved(last.loss, model, _Hunger(place=last.place), None))
        return sightings

    def _judge(self, event: Backward) -> Judgement:
        known = self._judgements.get(id(event))
        if known is not None and known[0] is event:
            return known[1]
        judgement = judge(self.policy.rule(event.loss), self.models, event)
        if len(self._judgements) >= _REMEMBERED:
            self._judgements.clear()
        self._judgements[id(event)] = event, judgement
        return judgement

    def _backward(self, event: Backward, landed: bool) -> list[Sighting]:
        judgement = self._judge(event)
        sightings: dict[tuple[str, str, str], Sighting] = {}
        seen = self.seen.setdefault(event.loss, {})
        for one in judgement.deposits:
            account = one.deposit.account
            if one.kind is not Kind.OPEN or account not in seen:
                seen[account] = one.kind
            accusation = one.accusation
            if accusation is not None and not event.assumed:
                self._see(sightings, accusation, one.deposit, event.place)
            if landed:
                self._enter(one, event)
        for model in judgement.questions:
            accusation = Accusation(Saw.UNKNOWN, event.loss, model, Account((model,)))
            told = Deposit(accusation.account, evidence=_opaque(event.place))
            self._see(sightings, accusation, told, event.place)
        if not event.assumed:
            self.last[event.loss] = event
        if landed and not event.assumed:
            self._feed(event, judgement)
            self._plan(event, judgement)
        return list(sightings.values())

    def _plan(self, event: Backward, judgement: Judgement) -> None:
        """Keep what a backward does to the ledger, if it does the same when it comes again."""
        self._plans.pop(event.loss, None)
        self._open = self._cases.open
        accused = [one.accusation for one in judgement.deposits if one.accusation is not None]
        if judgement.questions or any(missed for _, missed in judgement.hungry):
            return
        cases = {accusation.key: self._cases.by_cause[accusation.key] for accusation in accused}
        if any(cases[accusation.key].rank != accusation.rank for accusation in accused):
            return
        self._plans[event.loss] = _Plan(
            event,
            [(one.deposit.account, (event.loss, id(one.kind)), one) for one in judgement.deposits],
            list(cases.values()),
            [self._hunger[event.loss, model] for model, _ in judgement.hungry],
        )

    def _see(
        self,
        sightings: dict[tuple[str, str, str], Sighting],
        accusation: Accusation,
        deposit: Deposit | None,
        place: Place,
        spend: Spend | None = None,
    ) -> None:
        """Take an accusation in, counting each root cause once an event."""
        seen = sightings.get(accusation.key)
        if seen is None:
            sightings[accusation.key] = self._cases.see(accusation, deposit, place, spend)
        elif not self._cases.known(accusation):
            sightings[accusation.key] = self._cases.upgrade(accusation, deposit, place, spend)

    def _enter(self, one: Judged, event: Backward) -> None:
        lying = self._entries.setdefault(one.deposit.account, {})
        key = (event.loss, id(one.kind))
        entry = lying.get(key)
        if entry is None:
            now = self._time
            lying[key] = _Entry(one, event.loss, event.place, now, now, now, event.assumed)
            return
        entry.judged, entry.place, entry.latest = one, event.place, self._time
        entry.assumed &= event.assumed
        if entry.fresh is None:
            entry.fresh = self._time

    def _feed(self, event: Backward, judgement: Judgement) -> None:
        for model, missed in judgement.hungry:
            hunger = self._hunger.get((event.loss, model))
            if hunger is None:
                hunger = self._hunger[event.loss, model] = _Hunger()
            if not missed:
                hunger.misses, hunger.judged, hunger.pending = 0, True, False
                continue
            hunger.misses += 1
            hunger.place = event.place
            hunger.pending = not hunger.judged or hunger.misses >= AGAIN_AFTER

    def _accuse(self, event: Spend) -> list[tuple[Accusation, _Entry | None]]:
        lying = [
            (account, entry)
            for account in self._ordered(event.accounts)
            for entry in self._entries[account].values()
        ]
        fresh = [
            entry.fresh
            for _, entry in lying
            if entry.judged.kind is Kind.MEANT and entry.fresh is not None
        ]
        first_meant = min(fresh, default=None)
        accused: list[tuple[Accusation, _Entry | None]] = []
        for account, entry in lying:
            saw = _consumed(entry, event.optimizer, first_meant)
            if saw is not None:
                accused.append((Accusation(saw, entry.loss, entry.judged.model, account), entry))
        for account in sorted(event.coasting, key=self._rank):
            hungry = any(
                model in account.owners and family == "starved"
                for _, model, family in self._cases.by_cause
            )
            if account not in self._entries and not hungry:
                accused.append((Accusation(Saw.MOVED, "", account.owners[0], account), None))
        if len(accused) > 1:
            accused.sort(key=lambda pair: (pair[0].saw.value, pair[1].since if pair[1] else 0))
        return accused

    def _acquit(
        self,
        accused: Iterable[tuple[Accusation, _Entry | None]],
        stands: Callable[[Accusation], bool],
    ) -> bool:
        """Clear the accounts of fresh accusations that do not stand; say whether there were any."""
        gone: set[Account] = set()
        for accusation, _ in accused:
            fresh = not self._cases.known(accusation)
            if fresh and accusation.account not in gone and not stands(accusation):
                gone.add(accusation.account)
        for account in gone:
            self._entries.pop(account, None)
        return bool(gone)

    def _ordered(self, accounts: Iterable[Account]) -> list[Account]:
        """Return the accounts in which something lies, in the order of the models."""
        held = self.holding(accounts)
        return sorted(held, key=self._rank) if len(held) > 1 else held

    def _rank(self, account: Account) -> tuple[tuple[int, ...], int]:
        """Put accounts in the order of their models, whatever the models are called."""
        known = {model: number for number, model in enumerate(self.models)}
        return tuple(known.get(owner, len(known)) for owner in account.owners), account.part

    def _spend(self, event: Spend, stands: Callable[[Accusation], bool] | None) -> list[Sighting]:
        sightings: dict[tuple[str, str, str], Sighting] = {}
        accused = self._accuse(event)
        if accused and stands is not None and self._acquit(accused, stands):
            accused = self._accuse(event)
        for accusation, entry in accused:
            deposit = entry.judged.deposit if entry else None
            place = entry.place if entry else event.place
            self._see(sightings, accusation, deposit, place, event)
        trained: dict[str, set[str]] = {}
        self._undo = []
        for account in event.accounts:
            for entry in self._entries.get(account, {}).values():
                self._undo.append((entry, entry.fresh, event.optimizer in entry.spent_by))
                entry.spent_by.add(event.optimizer)
                entry.fresh = None
                if entry.judged.kind is Kind.MEANT:
                    trained.setdefault(entry.loss, set()).add(entry.judged.model)
            self._stepped.update(account.owners)
        self._cases.close(event.place, trained)
        self._known.add(event.optimizer)
        self._open = self._cases.open
        for (loss, model), hunger in self._hunger.items():
            if hunger.pending and any(model in account.owners for account in event.accounts):
                sightings[loss, model, "starved"] = self._starved(loss, model, hunger, event)
        return list(sightings.values())

    def _starved(self, loss: str, model: str, hunger: _Hunger, spend: Spend | None) -> Sighting:
        of_loss = [other for (name, _), other in self._hunger.items() if name == loss]
        # A loss that has reached nothing that it must train is one finding, not several.
        for other in of_loss if all(other.misses for other in of_loss) else (hunger,):
            other.settle()
        accusation = Accusation(Saw.STARVED, loss, model, Account((model,)))
        told = Evidence()
        if self._absence is not None and not self._cases.known(accusation):
            told = self._absence(loss, model)
        return self._cases.starve(accusation, hunger.place, spend, told)


def _consumed(entry: _Entry, optimizer: str, first_meant: int | None) -> Saw | None:
    """Say what it means that a step consumes an entry.

    Args:
        entry: What lies in the account.
        optimizer: Who steps.
        first_meant: When the first deposit came that is meant for this step, if one did.
    """
    match entry.judged.kind:
        case _ if entry.assumed:
            return None
        case Kind.LEAK:
            return Saw.LEAK_APPLIED
        case Kind.SPILL:
            stale = first_meant is not None and entry.latest < first_meant
            return Saw.SPILL_STALE if stale else Saw.SPILL_APPLIED
        case Kind.MEANT if optimizer in entry.spent_by:
            return Saw.OWN_STALE
        case _:
            return None


def _opaque(place: Place) -> Evidence:
    text = "a custom Function, a compiled region or a reentrant checkpoint lies on the way"
    return Evidence(
        (TraceStep(place, text),), "let a Guard watch the backward itself, or use `numeric=True`"
    )

"""The ledger: decides from events alone what leaked, spilled, was applied, stale or starved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from gradguard.core.codes import code
from gradguard.core.events import (
    Account,
    Backward,
    Clear,
    Deposit,
    Event,
    Evidence,
    Holder,
    Restart,
    Spend,
)
from gradguard.core.findings import UNKNOWN_PLACE, Finding, Place, Severity, TraceStep
from gradguard.core.policy import Policy, Rule, Stance
from gradguard.core.verdicts import VERDICTS, Saw, Verdict

__all__ = ["OTHERS", "Accusation", "Kind", "Ledger", "Sighting", "classify"]

OTHERS = Account(("<other parameters>",))
"""Stands for trainable parameters outside all declared models."""

AGAIN_AFTER = 10
"""A loss that has reached a model before is starved only after so many misses in a row."""


class Kind(Enum):
    """How a deposit relates to the policy."""

    MEANT = "meant"
    SPILL = "spill"
    LEAK = "leak"
    OPEN = "open"


def classify(rule: Rule, deposit: Deposit) -> tuple[Kind, str]:
    """Say whether a deposit is meant, spilled on the way to an allowed model, or leaked.

    Returns:
        The kind and the owner of the account on whose behalf it was decided.
    """
    stance, owner = rule.stance(deposit.account.owners)
    if stance is not Stance.NEVER:
        return Kind.MEANT, owner
    passes = any(rule.stance(other.owners)[0] is not Stance.NEVER for other in deposit.behind)
    return (Kind.SPILL if passes else Kind.LEAK), owner


@dataclass(frozen=True, slots=True)
class Accusation:
    """A conclusion that a finding would follow from.

    Attributes:
        saw: The row of the verdict table.
        loss: The loss accused.
        model: The model wronged.
        account: The account it concerns.
    """

    saw: Saw
    loss: str
    model: str
    account: Account

    @property
    def key(self) -> tuple[str, str, str]:
        """The root cause: accusations with the same key are one finding."""
        return self.loss, self.model, _FAMILY.get(self.saw, "reach")


_FAMILY = {
    Saw.OWN_STALE: "own",
    Saw.STARVED: "starved",
    Saw.MOVED: "moved",
    Saw.UNKNOWN: "unknown",
}
_RANK = {Saw.SPILL: 0, Saw.LEAK: 1, Saw.LIVE_SHADOW: 1}


@dataclass(frozen=True, slots=True)
class Sighting:
    """A finding as an event shows it.

    Attributes:
        finding: The finding as it stands now.
        verdict: The row of the verdict table that it follows.
        fresh: True the first time, and when the finding became worse.
    """

    finding: Finding
    verdict: Verdict
    fresh: bool


@dataclass(slots=True)
class _Entry:
    """What one loss has put into one account since the last clear."""

    loss: str
    model: str
    kind: Kind
    deposit: Deposit
    place: Place
    since: int
    fresh: int | None
    spent_by: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Case:
    """A root cause and what has been seen of it."""

    saw: Saw
    finding: Finding
    closing: TraceStep | None = None
    open_end: bool = False

    @property
    def shown(self) -> Finding:
        """The finding with the end of its trace."""
        if self.closing is None:
            return self.finding
        return replace(self.finding, trace=(*self.finding.trace, self.closing))


@dataclass(slots=True)
class _Hunger:
    """How often a loss has missed a model that it must train."""

    misses: int = 0
    judged: bool = False
    pending: bool = False
    place: Place = UNKNOWN_PLACE


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
        self._absence = absence
        self._time = 0
        self._entries: dict[Account, dict[tuple[str, Kind], _Entry]] = {}
        self._cases: dict[tuple[str, str, str], _Case] = {}
        self._hunger: dict[tuple[str, str], _Hunger] = {}
        self._stepped: set[str] = set()
        self.together: frozenset[str] = frozenset()
        self.seen: dict[str, dict[Account, Kind]] = {}
        self.last: dict[str, Backward] = {}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings so far, in the order in which they were first seen, GG102 included."""
        return tuple(case.shown for case in self._cases.values())

    def post(self, event: Event, *, landed: bool = True) -> list[Sighting]:
        """Take one event and return what it shows.

        Args:
            event: What happened.
            landed: False for a backward that is about to be refused: it is judged and found,
                but nothing is deposited.
        """
        self._time += 1
        match event:
            case Backward():
                return self._backward(event, landed)
            case Clear():
                for account in event.accounts:
                    self._entries.pop(account, None)
                return []
            case Spend():
                return self._spend(event)
            case Restart():
                return []

    def preview(self, event: Backward | Spend) -> list[Accusation]:
        """Say what ``event`` would show, changing nothing."""
        if isinstance(event, Spend):
            return [accusation for accusation, _ in self._accuse(event)]
        return [accusation for accusation, _ in self._judged(event) if accusation is not None]

    def known(self, accusation: Accusation) -> bool:
        """Say whether the accusation's finding exists already, at this level or a worse one."""
        case = self._cases.get(accusation.key)
        return case is not None and _RANK.get(case.saw, 2) >= _RANK.get(accusation.saw, 2)

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
                entry.spent_by or entry.kind in (Kind.SPILL, Kind.LEAK)
                for entry in self._entries[account].values()
            )
        ]

    def split(self, parts: Callable[[Account], Iterable[Account]]) -> None:
        """Move what lies in accounts to the parts into which each has fallen."""
        old, self._entries = self._entries, {}
        for account, entries in old.items():
            for part in parts(account):
                self._entries[part] = {
                    key: replace(entry, spent_by=set(entry.spent_by))
                    for key, entry in entries.items()
                }

    def end(self) -> list[Sighting]:
        """Judge what could not be judged at a step: models that were starved and never stepped."""
        sightings = []
        for (loss, model), hunger in self._hunger.items():
            if hunger.pending and model not in self._stepped:
                hunger.pending, hunger.judged, hunger.misses = False, True, 0
                sightings.append(self._starved(loss, model, hunger, None))
        reached = {
            owner for seen in self.seen.values() for account in seen for owner in account.owners
        }
        for model in sorted(self.together - reached) if self.last else ():
            last = next(reversed(self.last.values()))
            sightings.append(self._starved(last.loss, model, _Hunger(place=last.place), None))
        return sightings

    def _judged(self, event: Backward) -> list[tuple[Accusation | None, _Entry]]:
        rule = self.policy.rule(event.loss)
        if rule is None:
            return [
                (None, self._entry(event, deposit, deposit.account.owners[0], Kind.OPEN))
                for deposit in event.deposits
            ]
        required = [model for model in rule.required(self.models) if model not in event.untrainable]
        missing = self.missing(event.loss, (deposit.account for deposit in event.deposits))
        sure = not event.blind and not event.unknown.intersection(required)
        starved = bool(required) and sure and set(required) <= set(missing)
        judged: list[tuple[Accusation | None, _Entry]] = []
        for deposit in event.deposits:
            kind, model = classify(rule, deposit)
            # A loss that reaches nothing it must train is one finding, starved: what it still
            # reaches is a consequence of the same mistake.
            accused = kind is not Kind.MEANT and not starved
            saw = Saw.SPILL
            if kind is Kind.LEAK:
                saw = Saw.LIVE_SHADOW if deposit.holder is Holder.SHADOW else Saw.LEAK
            entry_kind = kind if accused or kind is Kind.MEANT else Kind.OPEN
            judged.append(
                (
                    Accusation(saw, event.loss, model, deposit.account) if accused else None,
                    self._entry(event, deposit, model, entry_kind),
                )
            )
        return judged

    def _entry(self, event: Backward, deposit: Deposit, model: str, kind: Kind) -> _Entry:
        return _Entry(event.loss, model, kind, deposit, event.place, self._time, self._time)

    def _backward(self, event: Backward, landed: bool) -> list[Sighting]:
        sightings: dict[tuple[str, str, str], Sighting] = {}
        for accusation, entry in self._judged(event):
            account = entry.deposit.account
            if entry.kind is not Kind.OPEN or account not in self.seen.get(event.loss, {}):
                self.seen.setdefault(event.loss, {})[account] = entry.kind
            if accusation is not None and not event.assumed:
                sighting = self._sight(accusation, entry)
                if accusation.key not in sightings or sighting.fresh:
                    sightings[accusation.key] = sighting
            if landed:
                lying = self._entries.setdefault(account, {})
                known = lying.setdefault((entry.loss, entry.kind), entry)
                known.deposit, known.place = entry.deposit, entry.place
                if known.fresh is None:
                    known.fresh = self._time
        for model in self._open_questions(event):
            accusation = Accusation(Saw.UNKNOWN, event.loss, model, Account((model,)))
            sightings[accusation.key] = self._sight(accusation, self._asked(event, model))
        self.seen.setdefault(event.loss, {})
        self.last[event.loss] = event
        if landed:
            self._feed(event)
        return list(sightings.values())

    def _open_questions(self, event: Backward) -> list[str]:
        rule = self.policy.rule(event.loss)
        if rule is None:
            return []
        required = rule.required(self.models)
        return [
            model
            for model in sorted(event.unknown)
            if model in required or rule.stance((model,))[0] is Stance.NEVER
        ]

    def _asked(self, event: Backward, model: str) -> _Entry:
        step = TraceStep(
            event.place,
            "a custom Function, a compiled region or a reentrant checkpoint lies on the way",
        )
        told = Evidence((step,), "let a Guard watch the backward itself, or use `numeric=True`")
        deposit = Deposit(Account((model,)), evidence=told)
        return self._entry(event, deposit, model, Kind.OPEN)

    def _feed(self, event: Backward) -> None:
        rule = self.policy.rule(event.loss)
        if rule is None or event.assumed:
            return
        missing = self.missing(event.loss, (deposit.account for deposit in event.deposits))
        for model in rule.required(self.models):
            hunger = self._hunger.setdefault((event.loss, model), _Hunger())
            excused = event.untrainable | event.unknown
            if model not in missing or event.blind or model in excused:
                hunger.misses, hunger.judged, hunger.pending = 0, True, False
                continue
            hunger.misses += 1
            hunger.place = event.place
            hunger.pending = not hunger.judged or hunger.misses >= AGAIN_AFTER

    def _accuse(self, event: Spend) -> list[tuple[Accusation, _Entry | None]]:
        lying = [
            (account, entry)
            for account in event.accounts
            for entry in self._entries.get(account, {}).values()
        ]
        fresh = [
            entry.fresh
            for _, entry in lying
            if entry.kind is Kind.MEANT and entry.fresh is not None
        ]
        first_meant = min(fresh, default=None)
        accused: list[tuple[Accusation, _Entry | None]] = []
        for account, entry in lying:
            saw: Saw | None = None
            if entry.kind is Kind.LEAK:
                saw = Saw.LEAK_APPLIED
            elif entry.kind is Kind.SPILL:
                stale = first_meant is not None and entry.since < first_meant
                saw = Saw.SPILL_STALE if stale else Saw.SPILL_APPLIED
            elif entry.kind is Kind.MEANT and event.optimizer in entry.spent_by:
                saw = Saw.OWN_STALE
            if saw is not None:
                accused.append((Accusation(saw, entry.loss, entry.model, account), entry))
        for account in event.coasting:
            owner = account.owners[0]
            hungry = any(key[1] in account.owners and key[2] == "starved" for key in self._cases)
            if account not in self._entries and not hungry:
                accused.append((Accusation(Saw.MOVED, "", owner, account), None))
        accused.sort(key=lambda pair: pair[1].since if pair[1] else 0)
        return accused

    def _spend(self, event: Spend) -> list[Sighting]:
        sightings: dict[tuple[str, str, str], Sighting] = {}
        for accusation, entry in self._accuse(event):
            sighting = self._sight(accusation, entry, event)
            if accusation.key not in sightings or sighting.fresh:
                sightings[accusation.key] = sighting
        spent = set()
        for account in event.accounts:
            for entry in self._entries.get(account, {}).values():
                entry.spent_by.add(event.optimizer)
                entry.fresh = None
                if entry.kind is Kind.MEANT:
                    spent.add((entry.loss, entry.model))
        self._close(event, spent)
        owners = {owner for account in event.accounts for owner in account.owners}
        self._stepped |= owners
        for (loss, model), hunger in self._hunger.items():
            if hunger.pending and model in owners:
                hunger.pending, hunger.judged, hunger.misses = False, True, 0
                sighting = self._starved(loss, model, hunger, event)
                sightings[loss, model, "starved"] = sighting
        return list(sightings.values())

    def _close(self, event: Spend, spent: set[tuple[str, str]]) -> None:
        """End the traces of leaks whose loss has now trained what it was meant to train."""
        for (loss, _, _), case in self._cases.items():
            trained = sorted(model for spender, model in spent if spender == loss)
            if case.open_end and trained:
                case.open_end = False
                names = ", ".join(f"`{model}`" for model in trained)
                case.closing = TraceStep(event.place, f"trains {names} only")

    def _sight(
        self, accusation: Accusation, entry: _Entry | None, spend: Spend | None = None
    ) -> Sighting:
        case = self._cases.get(accusation.key)
        if case is not None and self.known(accusation):
            case.finding = replace(case.finding, count=case.finding.count + 1)
            return Sighting(case.shown, VERDICTS[case.saw], fresh=False)
        finding = _finding(accusation, entry, spend, case.finding if case else None)
        worse = _Case(accusation.saw, finding, open_end=spend is None)
        self._cases[accusation.key] = worse
        return Sighting(finding, VERDICTS[accusation.saw], fresh=True)

    def _starved(self, loss: str, model: str, hunger: _Hunger, spend: Spend | None) -> Sighting:
        accusation = Accusation(Saw.STARVED, loss, model, Account((model,)))
        case = self._cases.get(accusation.key)
        if case is not None:
            case.finding = replace(case.finding, count=case.finding.count + 1)
            return Sighting(case.shown, VERDICTS[Saw.STARVED], fresh=False)
        evidence = self._absence(loss, model) if self._absence else Evidence()
        steps = [
            *evidence.trace,
            TraceStep(hunger.place, f"no parameter of `{model}` receives gradient"),
        ]
        if spend is not None:
            steps.append(TraceStep(spend.place, f"steps `{model}` without gradient of `{loss}`"))
        finding = _made(Saw.STARVED, loss, model, "", evidence.place or hunger.place, steps)
        finding = replace(finding, help=evidence.help)
        self._cases[accusation.key] = _Case(Saw.STARVED, finding)
        return Sighting(finding, VERDICTS[Saw.STARVED], fresh=True)


def _finding(
    accusation: Accusation, entry: _Entry | None, spend: Spend | None, before: Finding | None
) -> Finding:
    """Build the finding of an accusation, on top of the milder one it grew from, if any."""
    loss, model, saw = accusation.loss, accusation.model, accusation.saw
    optimizer = spend.optimizer if spend else ""
    steps: list[TraceStep] = []
    help_text = None
    place = spend.place if spend else UNKNOWN_PLACE
    if before is not None and saw is Saw.LEAK_APPLIED:
        steps, help_text, place = list(before.trace), before.help, before.place
    elif entry is not None:
        evidence = entry.deposit.evidence or Evidence()
        steps = list(evidence.trace) or [TraceStep(entry.place, f"`{loss}` runs backward")]
        if spend is None or saw is Saw.LEAK_APPLIED:
            help_text, place = evidence.help, evidence.place or entry.place
    if spend is not None:
        consumed = {
            Saw.LEAK_APPLIED: f"applies it to `{model}`",
            Saw.SPILL_APPLIED: f"applies it to `{model}`",
            Saw.SPILL_STALE: f"steps `{model}` with what was left over",
            Saw.OWN_STALE: f"steps `{model}` with it again",
            Saw.MOVED: f"moves `{model}` by momentum or weight decay",
        }[saw]
        steps = [step for step in steps if step.place != spend.place]
        steps.append(TraceStep(spend.place, consumed))
    helps = {
        Saw.SPILL_APPLIED: f"give `{model}` an optimizer of its own, or filter with "
        f"`gradguard.backward({loss}, into=...)`",
        Saw.SPILL_STALE: f"clear `{model}` before its own loss runs backward: "
        f"`{optimizer}.zero_grad()`",
        Saw.OWN_STALE: f"clear `{model}` after the step: `{optimizer}.zero_grad()`",
        Saw.MOVED: f"`{optimizer}.zero_grad(set_to_none=True)`: an optimizer skips a gradient "
        "that is None, not one that is zero",
        Saw.SPILL: f"`{model}.requires_grad_(False)` around the forward saves the work and the "
        "memory",
    }
    made = _made(saw, loss, model, optimizer, place, steps)
    return replace(made, help=help_text or helps.get(saw))


def _made(
    saw: Saw, loss: str, model: str, optimizer: str, place: Place, steps: Sequence[TraceStep]
) -> Finding:
    verdict = VERDICTS[saw]
    return Finding(
        code=verdict.code,
        name=code(verdict.code).name,
        severity=Severity(verdict.severity),
        message=verdict.message.format(loss=loss, model=model, optimizer=optimizer),
        place=place,
        loss=loss or None,
        model=model,
        trace=tuple(steps),
    )

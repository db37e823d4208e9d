"""The ledger: decides from events alone what leaked, spilled, was applied, stale or starved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from gradguard.core.cases import Cases, Sighting
from gradguard.core.credits import Credit, Credits
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
from gradguard.core.findings import Finding, Place, TraceStep
from gradguard.core.hunger import Hunger, Hungers
from gradguard.core.judgement import Accusation, Judgement, Kind, judge
from gradguard.core.policy import Policy
from gradguard.core.routine import Routine
from gradguard.core.timeline import Timeline
from gradguard.core.verdicts import Saw

__all__ = ["Ledger"]

_REMEMBERED = 256


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
        self._lying = Credits()
        self._cases = Cases()
        self._hungers = Hungers()
        self._routine = Routine(self._lying, self._cases, self._hungers, self.last, self.seen)
        self._stepped: set[str] = set()
        self._judgements: dict[int, tuple[Backward, Judgement]] = {}

    @property
    def _credits(self) -> Credits:
        self._routine.leave()
        return self._lying

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
        self._credits.now += not joint
        if self.timeline is not None and landed:
            self._remember(event)
        match event:
            case Backward():
                return self._backward(event, landed)
            case Clear():
                self._credits.clear(event.accounts)
            case Spend():
                return self._spend(event, stands)
            case Restart():
                pass
        return []

    def again(
        self, events: Sequence[Event], empty: Callable[[Account], bool] = lambda _: False
    ) -> bool:
        """Take in events, at little cost, if they do what they have done before.

        Args:
            events: The losses of one backward pass, or a clear, or a step. They are known again by
                the identity of the sequence.
            empty: Says of an account whether its gradients are gone; it is cleared then.

        Returns:
            False if the events have to be posted, since they may show something new.
        """
        if not self._routine.again(events, empty):
            return False
        if self.timeline is not None:
            for event in events:
                self._remember(event)
        return True

    def _remember(self, event: Event) -> None:
        if self.timeline is not None:
            self.timeline.add(event)
            if self.timeline.full:
                self.timeline = None

    def refuse(self, event: Spend) -> None:
        """Take back that the step just posted has spent anything: it was not let through."""
        self._credits.refund(event.optimizer)

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
        return self._credits.holding(accounts)

    def stale(self, accounts: Iterable[Account]) -> list[Account]:
        """Return those of ``accounts`` in which something foreign or already spent lies."""
        return [account for account in accounts if self._credits.stale(account)]

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
        self._routine.forget()
        self._lying.split(parts)

    def end(self) -> list[Sighting]:
        """Judge what could not be judged at a step: models that were starved and never stepped."""
        sightings = [
            self._starved(loss, model, hunger, None)
            for loss, model, hunger in self._hungers.waiting()
            if model not in self._stepped
        ]
        reached = {
            owner for seen in self.seen.values() for account in seen for owner in account.owners
        }
        for model in sorted(self.together - reached) if self.last else ():
            last = next(reversed(self.last.values()))
            sightings.append(self._starved(last.loss, model, Hunger(place=last.place), None))
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
                self._credits.put(one, event)
        for model in judgement.questions:
            accusation = Accusation(Saw.UNKNOWN, event.loss, model, Account((model,)))
            told = Deposit(accusation.account, evidence=_opaque(event.place))
            self._see(sightings, accusation, told, event.place)
        if not event.assumed:
            self.last[event.loss] = event
        if landed:
            if not event.assumed:
                self._feed(event, judgement)
            self._routine.plan(event, judgement)
        return list(sightings.values())

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

    def _feed(self, event: Backward, judgement: Judgement) -> None:
        for model, missed in judgement.hungry:
            hunger = self._hungers.of(event.loss, model)
            if missed:
                hunger.miss(event.place)
            else:
                hunger.feed()

    def _accuse(self, event: Spend) -> list[tuple[Accusation, Credit | None]]:
        lying = [
            (account, credit)
            for account in self._ordered(event.accounts)
            for credit in self._credits.of(account)
        ]
        fresh = [
            credit.fresh
            for _, credit in lying
            if credit.judged.kind is Kind.MEANT and credit.fresh is not None
        ]
        first_meant = min(fresh, default=None)
        accused: list[tuple[Accusation, Credit | None]] = []
        for account, credit in lying:
            saw = credit.consumed(event.optimizer, first_meant)
            if saw is not None:
                accused.append((Accusation(saw, credit.loss, credit.judged.model, account), credit))
        for account in sorted(event.coasting, key=self._rank):
            hungry = any(
                model in account.owners and family == "starved"
                for _, model, family in self._cases.by_cause
            )
            if account not in self._credits and not hungry:
                accused.append((Accusation(Saw.MOVED, "", account.owners[0], account), None))
        if len(accused) > 1:
            accused.sort(key=lambda pair: (pair[0].saw.value, pair[1].since if pair[1] else 0))
        return accused

    def _acquit(
        self,
        accused: Iterable[tuple[Accusation, Credit | None]],
        stands: Callable[[Accusation], bool],
    ) -> bool:
        """Clear the accounts of fresh accusations that do not stand; say whether there were any."""
        gone: set[Account] = set()
        for accusation, _ in accused:
            fresh = not self._cases.known(accusation)
            if fresh and accusation.account not in gone and not stands(accusation):
                gone.add(accusation.account)
        self._credits.clear(gone)
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
        for accusation, credit in accused:
            deposit = credit.judged.deposit if credit else None
            place = credit.place if credit else event.place
            self._see(sightings, accusation, deposit, place, event)
        trained: dict[str, set[str]] = {}
        for credit in self._credits.spend(event.optimizer, event.accounts):
            if credit.judged.kind is Kind.MEANT:
                trained.setdefault(credit.loss, set()).add(credit.judged.model)
        models = {owner for account in event.accounts for owner in account.owners}
        self._stepped.update(models)
        self._cases.close(event.place, trained)
        self._routine.stepped(event.optimizer)
        for loss, model, hunger in self._hungers.waiting():
            if model in models:
                sightings[loss, model, "starved"] = self._starved(loss, model, hunger, event)
        return list(sightings.values())

    def _starved(self, loss: str, model: str, hunger: Hunger, spend: Spend | None) -> Sighting:
        self._hungers.settle(loss, hunger)
        accusation = Accusation(Saw.STARVED, loss, model, Account((model,)))
        told = Evidence()
        if self._absence is not None and not self._cases.known(accusation):
            told = self._absence(loss, model)
        return self._cases.starve(accusation, hunger.place, spend, told)


def _opaque(place: Place) -> Evidence:
    text = "a custom Function, a compiled region or a reentrant checkpoint lies on the way"
    return Evidence(
        (TraceStep(place, text),), "let a Guard watch the backward itself, or use `numeric=True`"
    )

"""What one backward pass means under a rule: decided from the event alone, nothing remembered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from gradguard.core.events import Account, Backward, Deposit, Holder
from gradguard.core.policy import Rule, Stance
from gradguard.core.verdicts import Saw

__all__ = ["OTHERS", "Accusation", "Judged", "Judgement", "Kind", "classify", "judge"]

OTHERS = Account(("<other parameters>",))
"""Stands for trainable parameters outside all declared models."""


class Kind(Enum):
    """How a deposit relates to the policy."""

    MEANT = "meant"
    SPILL = "spill"
    LEAK = "leak"
    OPEN = "open"
    """Nothing is concluded: the policy does not speak of the loss, or the loss is starved."""


@dataclass(frozen=True)
class Accusation:
    """A conclusion that a finding would follow from.

    Attributes:
        saw: The row of the verdict table.
        loss: The loss accused; empty if none is.
        model: The model wronged.
        account: The account it concerns.
    """

    saw: Saw
    loss: str
    model: str
    account: Account

    @cached_property
    def key(self) -> tuple[str, str, str]:
        """The root cause: accusations with the same key are one finding."""
        return self.loss, self.model, _FAMILY.get(self.saw, "reach")

    @cached_property
    def rank(self) -> int:
        """How bad it is: a finding is upgraded to a higher rank, never to a lower one."""
        return _RANK.get(self.saw, 2)


_FAMILY = {
    Saw.OWN_STALE: "own",
    Saw.STARVED: "starved",
    Saw.MOVED: "moved",
    Saw.UNKNOWN: "unknown",
}
_RANK = {Saw.SPILL: 0, Saw.LEAK: 1, Saw.LIVE_SHADOW: 1}


@dataclass(frozen=True, slots=True)
class Judged:
    """One deposit, judged.

    Attributes:
        deposit: The deposit.
        kind: How it relates to the policy.
        model: The owner of the account on whose behalf that was decided.
        accusation: What it is accused of, if anything.
    """

    deposit: Deposit
    kind: Kind
    model: str
    accusation: Accusation | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """A backward pass, judged.

    Attributes:
        deposits: Its deposits.
        hungry: The models that it must reach and for which that can be told, each with whether
            it was missed.
        questions: The models of which the rule speaks and which it reaches or not, unknown.
    """

    deposits: tuple[Judged, ...]
    hungry: tuple[tuple[str, bool], ...]
    questions: tuple[str, ...]


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


def judge(rule: Rule | None, models: Sequence[str], event: Backward) -> Judgement:
    """Judge a backward pass under its rule.

    Args:
        rule: What the loss may train; ``None`` if the policy does not speak of it.
        models: The names of all models.
        event: The backward pass.
    """
    if rule is None:
        unjudged = (
            Judged(deposit, Kind.OPEN, deposit.account.owners[0], None)
            for deposit in event.deposits
        )
        return Judgement(tuple(unjudged), (), ())
    required = rule.required(models)
    reached = {owner for deposit in event.deposits for owner in deposit.account.owners}
    wanted = [model for model in required if model not in event.untrainable]
    # Of what a blind graph does not show, and of what is unknown, absence proves nothing.
    hungry = tuple(
        (model, model not in reached)
        for model in wanted
        if model in reached or not (event.blind or model in event.unknown)
    )
    # A loss that reaches nothing it must train is one finding, starved: what it still reaches is
    # a consequence of the same mistake.
    starved = bool(wanted) and len(hungry) == len(wanted) and all(missed for _, missed in hungry)
    questions = tuple(
        model
        for model in sorted(event.unknown)
        if model in required or rule.stance((model,))[0] is Stance.NEVER
    )
    kinds = [(deposit, *classify(rule, deposit)) for deposit in event.deposits]
    # The pair of loss and model is judged: one passing account of a model is enough.
    passed = {model for _, kind, model in kinds if kind is Kind.SPILL}
    judged = (
        _judged(
            deposit, Kind.SPILL if kind is Kind.LEAK and model in passed else kind, model, event
        )
        if kind is Kind.MEANT or not starved
        else Judged(deposit, Kind.OPEN, model, None)
        for deposit, kind, model in kinds
    )
    return Judgement(tuple(judged), hungry, questions)


def _judged(deposit: Deposit, kind: Kind, model: str, event: Backward) -> Judged:
    if kind is Kind.MEANT:
        return Judged(deposit, kind, model, None)
    saw = Saw.SPILL
    if kind is Kind.LEAK:
        saw = Saw.LIVE_SHADOW if deposit.holder is Holder.SHADOW else Saw.LEAK
    return Judged(deposit, kind, model, Accusation(saw, event.loss, model, deposit.account))

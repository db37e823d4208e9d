"""A ledger kept by model names, for tests that read like the loops they stand for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gradguard.core.cases import Sighting
from gradguard.core.events import Account, Backward, Clear, Deposit, Event, Evidence, Holder, Spend
from gradguard.core.findings import Location, Place
from gradguard.core.judgement import OTHERS
from gradguard.core.ledger import Ledger
from gradguard.core.policy import Policy
from gradguard.core.verdicts import Moment

__all__ = ["GAN", "Book", "C", "G", "account"]

GAN = {"critic_loss": "critic", "generator_loss": "generator"}
C, G = "critic", "generator"


class Book:
    """A ledger written to by model names; each event stands on the next line of ``train.py``."""

    def __init__(self, policy: Mapping[str, Any], *models: str) -> None:
        """Open a ledger for a policy over some models, critic and generator by default."""
        self.ledger = Ledger(
            Policy.parse(policy), models or (C, G), lambda _loss, _model: Evidence()
        )
        self.row = 0
        self.shown: list[Sighting] = []

    def post(self, event: Event, **options: Any) -> list[Sighting]:
        """Post an event and keep what it shows."""
        self.shown = self.ledger.post(event, **options)
        return self.shown

    def place(self) -> Place:
        """Return the next line."""
        self.row += 1
        return Place("train.py", Location(self.row, 1))

    def backward(
        self,
        loss: str,
        into: Mapping[str, Iterable[str]],
        *,
        holder: Holder = Holder.OPTIMIZER,
        options: Mapping[str, bool] | None = None,
        **facts: Any,
    ) -> list[Sighting]:
        """Let a loss deposit into models, each given with the models that lie behind it."""
        deposits = (
            Deposit(account(model), frozenset(map(account, behind)), holder=holder)
            for model, behind in into.items()
        )
        event = Backward(loss, tuple(deposits), self.place(), **facts)
        return self.post(event, **(options or {}))

    def clear(self, *models: str) -> list[Sighting]:
        """Clear models."""
        return self.post(Clear(frozenset(map(account, models)), self.place()))

    def step(self, optimizer: str, *models: str, coasting: Iterable[str] = ()) -> list[Sighting]:
        """Step an optimizer that holds models."""
        held, moved = map(account, models), map(account, coasting)
        return self.post(Spend(optimizer, frozenset(held), self.place(), frozenset(moved)))

    @property
    def found(self) -> list[tuple[str, str | None, str | None]]:
        """What was found, by code, loss and model."""
        return [(f.code, f.loss, f.model) for f in self.ledger.findings]

    @property
    def verdict(self) -> tuple[str, str, Moment, bool]:
        """Code, severity, moment and freshness of the one thing the last event showed."""
        [sighting] = self.shown
        finding = sighting.finding
        return finding.code, str(finding.severity), sighting.verdict.raises, sighting.fresh


def account(model: str) -> Account:
    """Return the account of a model, or of several that share it (``a+b``)."""
    return OTHERS if model == "others" else Account(tuple(model.split("+")))

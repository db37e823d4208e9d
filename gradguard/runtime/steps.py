"""Optimizer steps and clears under one guard."""

from __future__ import annotations

from types import FrameType
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim import Optimizer

from gradguard.core.events import Account, Clear, Spend
from gradguard.core.findings import IsolationError
from gradguard.core.judgement import Accusation
from gradguard.core.verdicts import Moment
from gradguard.runtime.balance import skipped_for_inf
from gradguard.runtime.names import optimizer_name
from gradguard.runtime.sites import Site, site

if TYPE_CHECKING:
    from gradguard.runtime.watch import Watch

__all__ = ["Steps"]


class Steps:
    """Judges what optimizers spend.

    Args:
        watch: The guard's eyes that this is a part of.

    Attributes:
        coasting: Steps under way that may move what no loss put gradient into, by optimizer.
    """

    def __init__(self, watch: Watch) -> None:
        """Begin with no step seen."""
        self._watch = watch
        self._events: dict[tuple[Any, ...], Spend] = {}
        self.coasting: dict[int, tuple[Spend, dict[Account, list[tuple[Tensor, Tensor]]]]] = {}

    def forget(self) -> None:
        """Forget which accounts optimizers hold: they have changed."""
        self._events.clear()

    def leave(self) -> None:
        """Let go of what was copied for a step that is under way."""
        self.coasting.clear()

    def before(self, optimizer: Optimizer, frame: FrameType | None) -> None:
        """Judge what an optimizer is about to spend, before any parameter moves."""
        watch = self._watch
        ledger, balance, registry = watch.ledger, watch.balance, watch.registry
        holding = registry.holding(optimizer)
        if not holding.accounts:
            return
        if holding.spend and ledger.again(holding.spend, registry.empty):
            return
        event = self._event(optimizer, site(frame, depth=1))
        balance.sweep(event.accounts)
        skipped = False

        def stands(accusation: Accusation) -> bool:
            nonlocal skipped
            skipped = skipped or skipped_for_inf(optimizer)
            return not skipped and balance.stands(accusation, optimizer)

        held = ledger.holding(event.accounts)
        if len(held) < len(event.accounts):
            values = balance.coasting(optimizer, event.accounts.difference(held))
            if values:
                self.coasting[id(optimizer)] = event, values
        try:
            watch.act(ledger.post(event, stands=stands), Moment.BEFORE_STEP)
        except IsolationError:
            self.coasting.pop(id(optimizer), None)
            ledger.refuse(event)
            raise

    def after(self, optimizer: Optimizer) -> None:
        """See whether a step has moved what no loss put gradient into."""
        event, values = self.coasting.pop(id(optimizer), (None, {}))
        if event is None:
            return
        watch = self._watch
        moved = watch.balance.moved(optimizer, values)
        if moved:
            coasted = Spend(event.optimizer, frozenset(), event.place, coasting=moved)
            watch.act(watch.ledger.post(coasted), Moment.AFTER_STEP)

    def cleared(self, holder: Optimizer | nn.Module) -> None:
        """Take note that the gradients of an optimizer or a module were cleared."""
        ledger, registry = self._watch.ledger, self._watch.registry
        if isinstance(holder, Optimizer):
            ledger.again(registry.holding(holder).clear)
            return
        held = ledger.holding(registry.accounts)
        inside = {id(parameter) for parameter in holder.parameters()} if held else set()
        whole = [
            account
            for account in held
            if all(id(p) in inside for p in registry.parameters(account))
        ]
        if whole:
            ledger.post(Clear(frozenset(whole)))

    def _event(self, optimizer: Optimizer, where: Site) -> Spend:
        registry = self._watch.registry
        accounts = registry.held_by(optimizer)
        key = (id(optimizer), *where.key)
        known = self._events.get(key)
        if known is not None and known.accounts is accounts:
            return known
        fallback = type(optimizer).__name__
        name = registry.name(optimizer, lambda: optimizer_name(where, fallback))
        event = self._events[key] = Spend(name, accounts, where.place)
        return event

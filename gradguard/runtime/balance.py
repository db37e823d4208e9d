"""What really lies in ``.grad``: looked up where events alone would accuse."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer

from gradguard.core.events import Account, Backward, Clear
from gradguard.core.judgement import Accusation
from gradguard.core.ledger import Ledger
from gradguard.core.verdicts import Saw
from gradguard.runtime.memory import Touched
from gradguard.runtime.proof import Answer, Docket, has_value, judge
from gradguard.runtime.registry import Registry

__all__ = ["Balance"]


class Balance:
    """Compares a ledger with the gradients themselves.

    Gradients that were set to ``None`` are seen at no cost. Gradients zeroed by hand, or written
    by the program itself, are seen by value, which waits for the device: only where a finding
    would follow, once, and then ever more rarely.

    Args:
        registry: The models and their accounts.
        ledger: What is believed to lie in them.
        docket: Which suspicions were looked at.
    """

    def __init__(self, registry: Registry, ledger: Ledger, docket: Docket) -> None:
        """Begin with nothing touched."""
        self._registry = registry
        self._ledger = ledger
        self._docket = docket
        self._touched: dict[tuple[str, Account], tuple[list[int], list[int]]] = {}

    def touch(self, foreign: Iterable[Touched]) -> None:
        """Remember which gradient objects foreign losses have just written to."""
        for one in foreign:
            # Identities are only paired up where an accusation asks for them.
            self._touched[one.loss, one.account] = one.leaves, one.gradients()

    def forget(self) -> None:
        """Forget what was touched: the accounts have changed."""
        self._touched.clear()

    def sweep(self, accounts: Iterable[Account]) -> None:
        """Clear the accounts in which every gradient is ``None``."""
        gone = [
            account for account in self._ledger.holding(accounts) if self._registry.empty(account)
        ]
        if gone:
            self._ledger.post(Clear(frozenset(gone)))

    def settle(self, event: Backward) -> None:
        """Bring the ledger up to date with the accounts of ``event`` before it deposits in them."""
        held = self._ledger.holding(deposit.account for deposit in event.deposits)
        if held:
            self.sweep(held)
            self.leftovers(self._ledger.meant(event))

    def leftovers(self, accounts: Iterable[Account]) -> None:
        """Look at accounts in which something old lies while something meant is about to come."""
        for account in self._ledger.stale(accounts):
            key = ("left over", account)
            if self._docket.proved(key):
                continue
            if self._docket.due(key):
                if judge(p.grad for p in self._registry.parameters(account)) is Answer.LIVE:
                    self._docket.prove(key)
                    continue
                self._docket.acquit(key)
            self._ledger.post(Clear(frozenset((account,))))

    def stands(self, accusation: Accusation, optimizer: Optimizer) -> bool:
        """Say whether the gradient that a step is accused of spending is really there."""
        key = (accusation.key, accusation.account, id(optimizer))
        if self._docket.proved(key):
            return True
        if not self._docket.due(key):
            return False
        parameters = self._registry.parameters(accusation.account)
        touched = self._touched.get((accusation.loss, accusation.account))
        if touched is not None and accusation.saw is not Saw.OWN_STALE:
            # A gradient object that nobody saw being written is not this loss's doing.
            written = dict(zip(*touched, strict=True))
            parameters = [p for p in parameters if written.get(id(p)) == id(p.grad)]
        if any(p.grad is not None and has_value(p.grad) for p in parameters):
            self._docket.prove(key)
            return True
        self._docket.acquit(key)
        return False

    def coasting(
        self, optimizer: Optimizer, accounts: Iterable[Account]
    ) -> dict[Account, list[tuple[Tensor, Tensor]]]:
        """Find accounts that a step may move although their gradients are zero, not ``None``.

        Returns:
            For each, its parameters with their values before the step.
        """
        found: dict[Account, list[tuple[Tensor, Tensor]]] = {}
        for account in accounts:
            parameters = [p for p in self._registry.parameters(account) if p.grad is not None]
            if not parameters:
                continue
            key = ("coasting", account, id(optimizer))
            if self._docket.proved(key) or not self._docket.due(key):
                continue
            if judge(p.grad for p in parameters) is Answer.ZERO:
                found[account] = [(p, p.detach().clone()) for p in parameters]
            else:
                self._docket.acquit(key)
        return found

    def moved(
        self, optimizer: Optimizer, before: dict[Account, list[tuple[Tensor, Tensor]]]
    ) -> frozenset[Account]:
        """Return the accounts whose parameters have changed since :meth:`coasting`."""
        moved = set()
        for account, values in before.items():
            key = ("coasting", account, id(optimizer))
            if any(not torch.equal(p.detach(), value) for p, value in values):
                moved.add(account)
                self._docket.prove(key)
            else:
                self._docket.acquit(key)
        return frozenset(moved)


def skipped_for_inf(optimizer: Optimizer) -> bool:
    """Say whether a fused optimizer will skip this step on the device, having found inf."""
    found = getattr(optimizer, "found_inf", None)
    return isinstance(found, Tensor) and bool(found != 0)

"""Parameters that a graph hides: what a reentrant checkpoint runs again is seen afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from gradguard.core.events import Account, Backward, Deposit
from gradguard.runtime.evidence import hidden
from gradguard.runtime.proof import Answer, Docket, can_set_aside, judge
from gradguard.runtime.reach import Reading

__all__ = ["Hidden", "hidden_key"]


class Hidden:
    """The accounts that a blind graph does not show, and what their gradients were before.

    Attributes:
        set_aside: The parameters whose gradients are to be taken out while backward runs.
        zero: The foreign accounts that were then found to have received zeros only.

    Args:
        reading: What the graph does show.
        foreign: Says of an account whether the loss must not train it.
        aside: Says of a foreign account whether its gradients are to be taken out, so that what
            backward adds is seen by itself and can be refused.
        elsewhere: Says of an account whether another loss of the same pass may have reached it.
    """

    def __init__(
        self,
        reading: Reading,
        foreign: Callable[[Account], bool],
        aside: Callable[[Account], bool],
        elsewhere: Callable[[Account], bool],
    ) -> None:
        """Remember the gradients of every account that is not in sight."""
        self._behind = reading.below_opaque()
        self._foreign = foreign
        self._models = reading.registry.models
        self._before: dict[Account, list[tuple[Tensor, int, int]]] = {}
        self.set_aside: list[Tensor] = []
        self.zero: list[Account] = []
        for account in reading.unseen():
            if elsewhere(account):
                continue
            parameters = [p for p in reading.registry.parameters(account) if p.requires_grad]
            if foreign(account) and can_set_aside(parameters) and aside(account):
                self.set_aside += parameters
            self._before[account] = [(p, id(p.grad), _version(p.grad)) for p in parameters]

    def found(
        self, event: Backward, docket: Docket
    ) -> tuple[Backward, dict[Account, list[Tensor]]]:
        """Complete ``event`` by what the backward has written unseen.

        A changed ``.grad`` is the proof; that a hook fires would be none. The value of a foreign
        gradient is read once: zeros are no leak.

        Args:
            event: What the graph showed.
            docket: Which foreign gradients were looked at before.

        Returns:
            The event with the new deposits, and the parameters that each of them reached.
        """
        deposits = list(event.deposits)
        reached: dict[Account, list[Tensor]] = {}
        aside = {id(p) for p in self.set_aside}
        for account, before in self._before.items():
            changed = [
                p
                for p, identity, version in before
                if p.grad is not None
                and (id(p) in aside or (id(p.grad), _version(p.grad)) != (identity, version))
            ]
            if not changed:
                continue
            key = hidden_key(event.loss, account)
            if self._foreign(account) and not docket.proved(key):
                if not docket.due(key):
                    continue
                answer = judge(p.grad for p in changed)
                if answer is not Answer.LIVE:
                    docket.acquit(key)
                    if answer is Answer.ZERO:
                        self.zero.append(account)
                    continue
                docket.prove(key)
            reached[account] = changed
            owner = account.owners[0]
            total = len(self._models[owner].parameters())
            told = hidden(owner, event.loss, len(changed), total, event.place)
            foreign = self._foreign(account)
            deposits.append(
                Deposit(account, self._behind, sure=False, evidence=told if foreign else None)
            )
        return replace(event, deposits=tuple(deposits)), reached


def hidden_key(loss: str, account: Account) -> tuple[str, str, Account]:
    """Identify the suspicion that ``loss`` reaches ``account`` out of sight."""
    return ("hidden", loss, account)


def _version(gradient: Tensor | None) -> int:
    return -1 if gradient is None else gradient._version

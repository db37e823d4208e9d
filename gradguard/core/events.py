"""What happens to gradients, as plain data: the language of both front ends.

Every ``.grad`` is an account. A backward pass deposits into accounts, a clear empties them, an
optimizer step spends them, and a restart says that the loop body begins again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from gradguard.core.findings import UNKNOWN_PLACE, Place, TraceStep

__all__ = ["Account", "Backward", "Clear", "Deposit", "Event", "Holder", "Restart", "Spend"]


class Holder(Enum):
    """Who is known to update the parameters of an account."""

    OPTIMIZER = "optimizer"
    NOBODY = "nobody"
    SHADOW = "shadow"


class Account(NamedTuple):
    """The gradients of the parameters that exactly these models and optimizers hold.

    Attributes:
        owners: Names of the models that hold the parameters, the most specific first.
        part: Tells accounts with the same owners apart whose parameters lie in different
            optimizers, so that a clear or a step covers an account whole or not at all.
    """

    owners: tuple[str, ...]
    part: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """How a deposit came about, in the words of a trace; made only for a deposit that accuses.

    Attributes:
        trace: Where the model's output was made and where it enters the loss.
        help: What to write instead, if that is known.
        place: Where to look first; the backward's own place if ``None``.
    """

    trace: tuple[TraceStep, ...] = ()
    help: str | None = None
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Deposit:
    """A loss puts gradient into an account.

    Attributes:
        account: Where the gradient goes.
        behind: The accounts with a leaf below some node of the owning models' part of the graph;
            a model with nothing allowed behind it is a dead end.
        sure: False where the verdict rests on parameters because no call was seen, or where an
            earlier, equal backward is assumed to have repeated itself.
        holder: Who updates the account's parameters.
        evidence: The path it took, for a deposit that may accuse.
    """

    account: Account
    behind: frozenset[Account] = frozenset()
    sure: bool = True
    holder: Holder = Holder.OPTIMIZER
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True)
class Backward:
    """A loss runs backward and deposits.

    Attributes:
        loss: The name of the loss.
        deposits: What it puts where.
        place: Where backward was called.
        untrainable: Models without a parameter that requires gradient at this moment.
        blind: True if the graph hides part of what the loss reaches, so that absence proves
            nothing.
        unknown: Models of which cannot be told whether the loss reaches them.
        assumed: True if the deposits repeat an earlier backward of the same loss unseen.
    """

    loss: str
    deposits: tuple[Deposit, ...]
    place: Place = UNKNOWN_PLACE
    untrainable: frozenset[str] = frozenset()
    blind: bool = False
    unknown: frozenset[str] = frozenset()
    assumed: bool = False


@dataclass(frozen=True, slots=True)
class Clear:
    """The gradients of accounts are removed or set to zero."""

    accounts: frozenset[Account]
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Spend:
    """An optimizer steps and consumes what lies in accounts.

    Attributes:
        optimizer: The name of the optimizer.
        accounts: All accounts it holds.
        place: Where step was called.
        coasting: Accounts that the step moves although their gradient is zero, not ``None``.
    """

    optimizer: str
    accounts: frozenset[Account]
    place: Place = UNKNOWN_PLACE
    coasting: frozenset[Account] = frozenset()


@dataclass(frozen=True, slots=True)
class Restart:
    """The loop body begins again."""


Event = Backward | Clear | Spend | Restart

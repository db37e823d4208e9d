"""The contract between losses and models, and the guard that holds the loop to it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, Self

from torch import Tensor

import gradguard
from gradguard.reference.models import Pair

__all__ = ["POLICY", "OnViolation", "Unguarded", "guard_for"]

POLICY = {"critic_loss": "critic", "generator_loss": "generator"}

OnViolation = Literal["raise", "warn", "record"]


class Unguarded:
    """Stands where a guard would, and lets everything through."""

    findings: tuple[gradguard.Finding, ...] = ()
    flow: gradguard.FlowMatrix | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def loss(self, _name: str) -> AbstractContextManager[Any]:
        """Name nothing."""
        return nullcontext()

    def backward(self, loss: Tensor, _name: str) -> None:
        """Run a plain backward."""
        loss.backward()


def guard_for(pair: Pair, on_violation: OnViolation) -> gradguard.Guard:
    """Build the guard of a pair's training loop."""
    models = {"critic": pair.critic, "generator": pair.generator}
    return gradguard.Guard(models, POLICY, on_violation=on_violation)

"""Losses, kept on the device until somebody wants to read them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

__all__ = ["DivergedError", "Metrics"]


class DivergedError(ArithmeticError):
    """Raised when a loss that was read is no finite number any more."""


class Metrics:
    """A few scalars for each step.

    Recording keeps references and touches no value, so the host never waits for the device;
    reading fetches everything that came since in one copy.

    Args:
        names: What is recorded at each step, in order.
    """

    def __init__(self, *names: str) -> None:
        self.names = names
        self._pending: list[tuple[Tensor, ...]] = []
        self._history: list[list[float]] = []

    def record(self, *values: Tensor) -> None:
        """Note a step's scalars, in the order of ``names``, all on one device."""
        self._pending.append(tuple(value.detach() for value in values))

    def read(self) -> dict[str, float]:
        """Fetch what was recorded, and return the latest step's values by name.

        Raises:
            DivergedError: If one of the values is infinite or not a number.
        """
        if self._pending:
            first = len(self._history) + 1
            flat = torch.stack([value for row in self._pending for value in row])
            rows = flat.view(-1, len(self.names)).tolist()
            self._pending.clear()
            self._history += rows
            self._require_finite(rows, first)
        return dict(zip(self.names, self._history[-1], strict=True)) if self._history else {}

    def history(self) -> dict[str, list[float]]:
        """Read everything, and return each name's value at every step."""
        self.read()
        return {name: [row[i] for row in self._history] for i, name in enumerate(self.names)}

    def state_dict(self) -> dict[str, Any]:
        """Read everything, and give it as one tensor, ``(steps, names)``."""
        self.read()
        return {"history": torch.tensor(self._history, dtype=torch.float64)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what ``state_dict`` gave."""
        self._pending.clear()
        self._history = state["history"].tolist()

    def _require_finite(self, rows: list[list[float]], first: int) -> None:
        for step, row in enumerate(rows, start=first):
            for name, value in zip(self.names, row, strict=True):
                if not math.isfinite(value):
                    raise DivergedError(
                        f"{name} is {value} at step {step}; lower the learning rates or, under "
                        "amp=float16, use bfloat16"
                    )

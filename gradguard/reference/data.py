"""The data, made on the fly: a ring of Gaussians in the plane."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["Batches", "Mixture", "Source"]


class Source(Protocol):
    """Anything that real samples can be drawn from."""

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """Draw ``count`` samples on the CPU, with all randomness taken from ``rng``."""
        ...


@dataclass(frozen=True)
class Mixture:
    """Equally likely round Gaussians, evenly spaced on a circle around the origin.

    The defaults are the ring that published GANs are tried on. It is a hard one: its modes are
    spread ``2 / 0.02 = 100`` standard deviations away from the centre and 76 from each other, so
    nothing lies between them and a generator that drops or joins modes shows it.

    Attributes:
        modes: How many Gaussians.
        radius: Distance of their centres from the origin.
        sigma: Their standard deviation.
    """

    modes: int = 8
    radius: float = 2.0
    sigma: float = 0.02

    @property
    def centers(self) -> Tensor:
        """The modes' centres, ``(modes, 2)``."""
        angle = torch.arange(self.modes) * (2 * math.pi / self.modes)
        return self.radius * torch.stack([angle.cos(), angle.sin()], dim=1)

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """Draw samples.

        Args:
            count: How many.
            rng: Source of all randomness, on the CPU.

        Returns:
            Points, ``(count, 2)``.
        """
        mode = torch.randint(self.modes, (count,), generator=rng)
        return self.centers[mode] + self.sigma * torch.randn(count, 2, generator=rng)


class Batches:
    """An endless stream of batches on the device, with a generator of its own.

    Args:
        source: Where the samples come from.
        size: Samples in a batch.
        device: Where the batches go.
        seed: Seed of the stream.
    """

    def __init__(self, source: Source, size: int, device: torch.device, seed: int) -> None:
        self._source = source
        self._size = size
        self._device = device
        self._rng = torch.Generator().manual_seed(seed)

    def next(self) -> Tensor:
        """Draw the next batch."""
        batch = self._source.draw(self._size, self._rng)
        if self._device.type == "cuda":
            # Only a copy out of pinned memory lets the host go on to make the next batch.
            batch = batch.pin_memory()
        return batch.to(self._device, non_blocking=True)

    def state_dict(self) -> dict[str, Any]:
        """Give the position in the stream."""
        return {"rng": self._rng.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a position that ``state_dict`` gave."""
        self._rng.set_state(state["rng"])

"""How good the generated points are, as the literature on mode collapse counts it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradguard.reference.data import Mixture

__all__ = ["Quality", "measure"]

#: How near to a mode a sample must be to count for it, in standard deviations.
NEAR = 3.0

#: The share of all samples that must be near a mode for it to count as covered.
COVERED = 0.02


@dataclass(frozen=True)
class Quality:
    """How a set of samples fits a mixture.

    Attributes:
        modes: How many modes the mixture has.
        covered: How many of them at least 2 % of the samples are within 3 sigma of.
        good: The share of samples within 3 sigma of any mode.
        shares: For each mode, the share of samples within 3 sigma of it.
    """

    modes: int
    covered: int
    good: float
    shares: tuple[float, ...]

    def __str__(self) -> str:
        return f"{self.covered} of {self.modes} modes covered, {self.good:.1%} of samples good"


def measure(samples: Tensor, mixture: Mixture) -> Quality:
    """Compare samples with the mixture they should come from.

    Args:
        samples: Points, ``(count, 2)``; 10,000 of them are usual.
        mixture: What they should look like.
    """
    distance = torch.linalg.vector_norm(samples.unsqueeze(1) - mixture.centers, dim=2)
    near = distance <= NEAR * mixture.sigma
    shares = near.double().mean(dim=0)
    return Quality(
        modes=mixture.modes,
        covered=int((shares >= COVERED).sum()),
        good=float(near.any(dim=1).double().mean()),
        shares=tuple(shares.tolist()),
    )

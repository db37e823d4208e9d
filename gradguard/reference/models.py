"""The two models. Any other pair plugs in as a function from settings to a ``Pair``."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from gradguard.reference.config import Settings

__all__ = ["Pair", "PairFactory", "mlp_pair"]


class Pair(NamedTuple):
    """A critic and the generator it judges.

    Attributes:
        critic: Maps samples ``(batch, ...)`` to scores ``(batch, 1)``.
        generator: Maps noise ``(batch, latent)`` to samples shaped like the data's.
    """

    critic: nn.Module
    generator: nn.Module


PairFactory = Callable[[Settings], Pair]


def mlp(inputs: int, outputs: int, *, width: int, depth: int) -> nn.Sequential:
    """Build a plain multilayer perceptron with ``depth`` hidden layers."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def mlp_pair(settings: Settings) -> Pair:
    """Build the default pair, for points in the plane."""
    return Pair(
        critic=mlp(2, 1, width=settings.width, depth=settings.depth),
        generator=mlp(settings.latent, 2, width=settings.width, depth=settings.depth),
    )

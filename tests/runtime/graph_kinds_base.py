"""What a kind of graph is: a program that builds models, then losses, and the truth about them.

A kind is a generator function. It yields its models, then its losses, each as a mapping from names;
what it does before the first yield happens before the guard is entered. The decorator `kind`
declares, loss by loss, the rule and what is true of every model under it, with the reason.
"""

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Stages = Iterator[Mapping[str, Any]]
Rule = str | list[str] | dict[str, list[str]]


class Truth(enum.Enum):
    """What a loss does to a model, by the definitions of the design."""

    MEANT = "reaches it, and may"
    LEAK = "reaches it over a dead end"
    SHADOW = "reaches it over a dead end, and it is a shadow model"
    SPILL = "reaches it on the way to a model that it may train"
    NONE = "does not reach it"
    ZERO = "reaches it, and every gradient is zero"
    STARVED = "does not reach it, and must"
    EXCUSED = "reaches it, which is a consequence of being starved"


CODES = {
    Truth.LEAK: "GG101",
    Truth.SHADOW: "GG104",
    Truth.SPILL: "GG102",
    Truth.STARVED: "GG301",
}


@dataclass(frozen=True)
class Claim:
    """One truth about a loss and a model, and why it holds."""

    truth: Truth
    why: str


def meant(why: str) -> Claim:
    """Claim that the loss reaches the model and nothing is wrong with that."""
    return Claim(Truth.MEANT, why)


def leak(why: str) -> Claim:
    """Claim that the loss reaches the model over a dead end."""
    return Claim(Truth.LEAK, why)


def shadow(why: str) -> Claim:
    """Claim that the loss reaches a target, teacher or average over a dead end."""
    return Claim(Truth.SHADOW, why)


def spill(why: str) -> Claim:
    """Claim that the loss passes through the model."""
    return Claim(Truth.SPILL, why)


def none(why: str) -> Claim:
    """Claim that the loss does not reach the model."""
    return Claim(Truth.NONE, why)


def zero(why: str) -> Claim:
    """Claim that the loss reaches the model with zeros only."""
    return Claim(Truth.ZERO, why)


def starved(why: str) -> Claim:
    """Claim that the loss misses a model that it must train."""
    return Claim(Truth.STARVED, why)


def excused(why: str) -> Claim:
    """Claim that the loss reaches the model only because it misses the one it must train."""
    return Claim(Truth.EXCUSED, why)


@dataclass(frozen=True)
class Loss:
    """A named loss, its rule in the policy, and the truth for each model."""

    name: str
    rule: Rule
    claims: Mapping[str, Claim]


def of(name: str, rule: Rule, **claims: Claim) -> Loss:
    """Declare a loss: its name, its rule, and one claim for every model of the kind."""
    return Loss(name, rule, claims)


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of graph with its policy and its truth.

    `joint`: the losses are watched by tensor and their sum is backwarded once.
    `detachable`: the truth can be checked by detaching what the models return from their calls.
    """

    name: str
    stages: Callable[[], Stages]
    losses: tuple[Loss, ...]
    joint: bool
    detachable: bool

    @property
    def policy(self) -> dict[str, Rule]:
        """The rule of every loss, as a Guard takes it."""
        return {loss.name: loss.rule for loss in self.losses}

    @property
    def truth(self) -> dict[tuple[str, str], Truth]:
        """The truth for every pair of loss and model."""
        return {
            (loss.name, model): claim.truth
            for loss in self.losses
            for model, claim in loss.claims.items()
        }

    @property
    def findings(self) -> set[tuple[str, str, str]]:
        """Every (code, loss, model) that a guard has to find, and no other."""
        return {
            (CODES[truth], loss, model)
            for (loss, model), truth in self.truth.items()
            if truth in CODES
        }


KINDS: dict[str, Kind] = {}


def kind(
    *losses: Loss, joint: bool = False, detachable: bool = True
) -> Callable[[Callable[[], Stages]], Callable[[], Stages]]:
    """Register the decorated program as a kind of graph with the given truth."""

    def register(stages: Callable[[], Stages]) -> Callable[[], Stages]:
        name = stages.__name__
        assert name not in KINDS, f"two kinds are called {name}"
        KINDS[name] = Kind(name, stages, losses, joint, detachable)
        return stages

    return register


def net(inputs: int, outputs: int, *, bias: bool = True) -> nn.Sequential:
    """Make a two-layer network, small enough to read a graph of it."""
    return nn.Sequential(
        nn.Linear(inputs, 4, bias=bias), nn.Tanh(), nn.Linear(4, outputs, bias=bias)
    )


def data(columns: int, rows: int = 3) -> Tensor:
    """Make a batch of data, `rows` by `columns`, that carries no gradient."""
    return torch.randn(rows, columns)

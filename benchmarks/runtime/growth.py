"""How the cost of a checked step grows with parameters and with graph nodes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import gradguard
from benchmarks.runtime.programs import Program
from benchmarks.runtime.steps import Effort
from benchmarks.runtime.timing import Contestant, Samples, interleave

__all__ = ["GrowthRow", "measure_growth"]

_ATTEMPTS = 3
_SAMPLE = 20e-3


@dataclass(frozen=True, slots=True)
class GrowthRow:
    """The line through the cost of a guard over a size.

    Attributes:
        name: What grows.
        unit: One of it.
        sizes: The sizes measured.
        extra_us: Microseconds a step that the guard adds, at each size.
        slope_us: Microseconds that one more unit adds to a checked step.
        base_us: What the line says of size zero.
        correlation: Of size and cost: 1 for a perfect line.
        control_us: The slope between two series of plain steps: the A/A row.
        limit_us: What ``slope_us`` may be at most.
    """

    name: str
    unit: str
    sizes: tuple[int, ...]
    extra_us: tuple[float, ...]
    slope_us: float
    base_us: float
    correlation: float
    control_us: float
    limit_us: float

    @property
    def objection(self) -> str | None:
        """Why the slope does not count, if it does not."""
        if abs(self.control_us) > 0.1 * self.limit_us:
            return "A/A is more than a tenth of the limit"
        return None

    @property
    def holds(self) -> bool | None:
        """Whether slope and linearity are as promised; ``None`` if the figures do not count."""
        if self.objection is not None:
            return None
        return self.slope_us <= self.limit_us and self.correlation >= 0.98


class _Parameters(nn.Module):
    """A model of many small parameters."""

    def __init__(self, count: int, device: torch.device) -> None:
        super().__init__()
        self.all = nn.ParameterList(torch.zeros(1, device=device) for _ in range(count))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat(list(self.all)).sum() * inputs


class _Chain(nn.Module):
    """A model that makes a long graph of one kind of node, and has one parameter."""

    def __init__(self, length: int, device: torch.device) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, device=device))
        self.length = length

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = inputs * self.weight
        for _ in range(self.length):
            hidden = hidden.view(1)
        return hidden


class _Training:
    """A loss over two models of which it is meant for one."""

    def __init__(
        self, critic: nn.Module, generator: nn.Module, device: torch.device, *, through: bool
    ) -> None:
        """Take the models.

        Args:
            critic: A model that the loss must not train.
            generator: The model that it trains.
            device: Where they are.
            through: Whether the loss passes through the critic, and so reaches it.
        """
        self.critic, self.generator, self.through = critic, generator, through
        self.models = {"critic": critic, "generator": generator}
        self.policy = {"generator_loss": "generator"}
        self.optimizer = torch.optim.SGD(generator.parameters(), lr=1e-6)
        self.inputs = torch.ones(1, device=device)

    def step(self) -> None:
        made = self.generator(self.inputs)
        generator_loss = (self.critic(made) if self.through else made).sum()
        self.optimizer.zero_grad()
        generator_loss.backward()
        self.optimizer.step()


def _of_parameters(size: int, device: torch.device) -> Program:
    return _Training(_Chain(1, device), _Parameters(size, device), device, through=False)


def _of_nodes(size: int, device: torch.device) -> Program:
    return _Training(_Chain(1, device), _Chain(size, device), device, through=False)


def _of_nodes_with_foreign_leaf(size: int, device: torch.device) -> Program:
    half = size // 2
    return _Training(_Chain(half, device), _Chain(size - half, device), device, through=True)


_LINES: tuple[tuple[str, str, Callable[[int, torch.device], Program], int, float], ...] = (
    ("parameters", "parameter", _of_parameters, 10_000, 1.5),
    ("nodes, no foreign leaf reached", "node", _of_nodes, 20_000, 1.0),
    ("nodes, a foreign leaf reached", "node", _of_nodes_with_foreign_leaf, 20_000, 2.0),
)


def measure_growth(effort: Effort) -> Iterator[GrowthRow]:
    """Time steps of growing size with and without guard, and fit a line to the difference."""
    for name, unit, make, largest, limit in _LINES:
        sizes = tuple(
            size for size in (10, 100, 300, 1_000, 3_000, 10_000, 20_000) if size <= largest
        )
        best: GrowthRow | None = None
        for _ in range(_ATTEMPTS):
            series = [_samples(make(size, effort.device), effort) for size in sizes]
            row = _fitted(name, unit, sizes, series, limit)
            if best is None or abs(row.control_us) < abs(best.control_us):
                best = row
            if best.objection is None:
                break
        if best is not None:
            yield best


def _samples(program: Program, effort: Effort) -> Samples:
    guard = gradguard.Guard(program.models, program.policy)
    contestants = {
        "plain": Contestant(program.step),
        "control": Contestant(program.step),
        "guarded": Contestant(program.step, lambda: guard),
    }
    seconds = max(effort.clock(program.step) for _ in range(2))
    repeats = min(20, max(1, round(_SAMPLE / seconds)))
    return interleave(contestants, rounds=effort.rounds, repeats=repeats, clock=effort.clock)


def _fitted(
    name: str, unit: str, sizes: tuple[int, ...], series: Sequence[Samples], limit: float
) -> GrowthRow:
    extra = [_difference(samples, "guarded") for samples in series]
    control = [_difference(samples, "control") for samples in series]
    slope, base = statistics.linear_regression(sizes, extra)
    return GrowthRow(
        name=name,
        unit=unit,
        sizes=sizes,
        extra_us=tuple(extra),
        slope_us=slope,
        base_us=base,
        correlation=statistics.correlation(sizes, extra),
        control_us=statistics.linear_regression(sizes, control).slope,
        limit_us=limit,
    )


def _difference(samples: Samples, name: str) -> float:
    """Return the microseconds that one contestant takes more than the plain step.

    Lower quartiles are compared: the largest steps are long, and what disturbs them only adds.
    """
    mine, plain = (statistics.quantiles(samples[key], n=4)[0] for key in (name, "plain"))
    return (mine - plain) * 1e6

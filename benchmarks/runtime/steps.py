"""Guarded steps against unguarded ones."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch

import gradguard
from benchmarks.runtime.programs import GAN, SAC, Program, conv_gan, mlp_gan
from benchmarks.runtime.timing import Clock, Contestant, Samples, interleave, ratio, typical

__all__ = ["SHORT_STEP", "Effort", "StepRow", "measure_steps"]

SHORT_STEP = 5e-3
"""Below this many seconds a step is short: noise weighs more, so the control may differ more."""

_LONG, _SHORT = 20e-3, 1.5e-3
_ATTEMPTS = 4
_SAMPLE = 12e-3
_EVERY = (1, 4, 16)

P = TypeVar("P", bound=Program)


@dataclass(frozen=True, slots=True)
class Effort:
    """How thoroughly to measure.

    Attributes:
        rounds: Interleaved samples of each contestant.
        device: Where to train.
        clock: How to measure.
    """

    rounds: int
    device: torch.device
    clock: Clock


@dataclass(frozen=True, slots=True)
class StepRow:
    """One way to guard a step, against the plain step.

    Attributes:
        name: What was timed.
        plain_ms: Median of the plain step.
        ratio: Median of the paired ratios, guarded against plain.
        control: The same for a second series of plain steps: the A/A row.
        rounds: How many pairs.
        limit: What ``ratio`` may be at most; ``None`` if nothing was promised.
        wanted_ms: The shortest and the longest step that the limit speaks of.
    """

    name: str
    plain_ms: float
    ratio: float
    control: float
    rounds: int
    limit: float | None
    wanted_ms: tuple[float, float] = (0.0, float("inf"))

    @property
    def tolerance(self) -> float:
        """How far the control may be from 1 for the ratio to count."""
        return 0.03 if self.plain_ms < SHORT_STEP * 1e3 else 0.01

    @property
    def objection(self) -> str | None:
        """Why the ratio does not count, if it does not."""
        if abs(self.control - 1) > self.tolerance:
            return "A/A is too far from 1"
        shortest, longest = self.wanted_ms
        if not shortest <= self.plain_ms <= longest:
            return "the limit is for steps of another length"
        return None

    @property
    def holds(self) -> bool | None:
        """Whether the limit holds; ``None`` if there is none or the ratio does not count."""
        if self.limit is None or self.objection is not None:
            return None
        return self.ratio <= self.limit


def measure_steps(effort: Effort) -> Iterator[StepRow]:
    """Time every program with and without guard."""
    yield from _short(effort)
    long = (_LONG * 1e3, float("inf"))
    makers: tuple[tuple[str, Callable[[int, torch.device], Program]], ...] = (
        ("two wide MLPs", partial(mlp_gan, width=256)),
        ("convolutional GAN", conv_gan),
        ("SAC, three networks", SAC),
    )
    for name, make in makers:
        program = _at_least(make, effort, _LONG)
        guard = gradguard.Guard(program.models, program.policy)
        contestants = {name: Contestant(program.step, lambda guard=guard: guard)}
        yield from _rows(program.step, contestants, effort, limit=1.02, wanted_ms=long)
    for name, make_gan in (
        ("generator step, filtered: two wide MLPs", partial(mlp_gan, width=256)),
        ("generator step, filtered: convolutional GAN", conv_gan),
    ):
        gan = _at_least(make_gan, effort, _LONG, lambda made: made.generator_step)
        guard = gradguard.Guard(gan.models, gan.policy)
        filtered = {name: Contestant(partial(gan.filtered_step, guard), lambda guard=guard: guard)}
        yield from _rows(gan.generator_step, filtered, effort, limit=0.90, wanted_ms=long)


def _short(effort: Effort) -> Iterator[StepRow]:
    program = _about(mlp_gan, effort, _SHORT)
    contestants = {}
    for every in _EVERY:
        guard = gradguard.Guard(program.models, program.policy, every=every)
        name = "two small MLPs" if every == 1 else f"two small MLPs, every={every}"
        contestants[name] = Contestant(program.step, lambda guard=guard: guard)
    # A sample covers whole periods of `every`, so that it is their mean.
    yield from _rows(
        program.step,
        contestants,
        effort,
        limit=1.10,
        wanted_ms=(1.0, 2.0),
        repeats=max(_EVERY),
    )


def _rows(
    plain: Callable[[], None],
    contestants: dict[str, Contestant],
    effort: Effort,
    *,
    limit: float,
    wanted_ms: tuple[float, float],
    repeats: int | None = None,
) -> Iterator[StepRow]:
    everyone = {"plain": Contestant(plain), "control": Contestant(plain), **contestants}
    seconds = typical(plain, effort.clock)
    count = repeats or max(1, round(_SAMPLE / seconds))
    # Attempts are chosen by the control alone, so the choice cannot favour the guard.
    best: Samples | None = None
    for _ in range(_ATTEMPTS):
        samples = interleave(everyone, rounds=effort.rounds, repeats=count, clock=effort.clock)
        if best is None or _noise(samples) < _noise(best):
            best = samples
        short = statistics.median(best["plain"]) < SHORT_STEP
        if _noise(best) <= (0.03 if short else 0.01) / 2:
            break
    assert best is not None  # noqa: S101  there is at least one attempt
    for name in contestants:
        yield StepRow(
            name=name,
            plain_ms=statistics.median(best["plain"]) * 1e3,
            ratio=ratio(best, name, "plain"),
            control=ratio(best, "control", "plain"),
            rounds=effort.rounds,
            limit=limit,
            wanted_ms=wanted_ms,
        )


def _noise(samples: Samples) -> float:
    return abs(ratio(samples, "control", "plain") - 1)


def _at_least(
    make: Callable[[int, torch.device], P],
    effort: Effort,
    seconds: float,
    step: Callable[[P], Callable[[], None]] = lambda made: made.step,
) -> P:
    """Make a program with a batch so large that a step takes at least ``seconds``, and a tenth."""
    batch = 64
    while True:
        program = make(batch, effort.device)
        taken = typical(step(program), effort.clock, tries=3)
        if taken >= 1.1 * seconds or batch >= 1 << 16:
            return program
        batch = int(batch * min(4.0, max(1.2, 1.2 * seconds / taken)))


def _about(
    make: Callable[[int, torch.device], P], effort: Effort, seconds: float
) -> P:
    """Make a program whose step comes closest to ``seconds``."""
    programs = [make(batch, effort.device) for batch in (16, 32, 64, 96, 128, 192, 256, 384, 512)]
    return min(programs, key=lambda made: abs(typical(made.step, effort.clock) - seconds))

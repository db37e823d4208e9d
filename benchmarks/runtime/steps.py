"""Guarded steps against unguarded ones."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch

import gradguard
from benchmarks.runtime.programs import SAC, Program, conv_gan, mlp_gan
from benchmarks.runtime.timing import Clock, Contestant, Samples, interleave, ratio, typical

__all__ = ["Effort", "StepRow", "measure_steps"]

_LONG, _SHORT = 20e-3, 1.5e-3
_BELOW, _ROUGHLY, _CLOSELY = 5e-3, 0.03, 0.01
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
class Promise:
    """What is promised of a ratio.

    Attributes:
        limit: What it may be at most.
        shortest_ms: The shortest plain step that the promise speaks of.
        longest_ms: The longest.
    """

    limit: float
    shortest_ms: float
    longest_ms: float = float("inf")


@dataclass(frozen=True, slots=True)
class StepRow:
    """One way to guard a step, against the plain step.

    Attributes:
        name: What was timed.
        plain_ms: Median of the plain step.
        ratio: Median of the paired ratios, guarded against plain.
        control: The same for a second series of plain steps: the A/A row.
        rounds: How many pairs.
        promise: What ``ratio`` is held to.
    """

    name: str
    plain_ms: float
    ratio: float
    control: float
    rounds: int
    promise: Promise

    @property
    def tolerance(self) -> float:
        """How far the control may be from 1 for the ratio to count."""
        return _tolerance(self.plain_ms / 1e3)

    @property
    def objection(self) -> str | None:
        """Why the ratio does not count, if it does not."""
        if abs(self.control - 1) > self.tolerance:
            return "A/A is too far from 1"
        if not self.promise.shortest_ms <= self.plain_ms <= self.promise.longest_ms:
            return "the limit is for steps of another length"
        return None

    @property
    def holds(self) -> bool | None:
        """Whether the limit holds; ``None`` if the ratio does not count."""
        return None if self.objection is not None else self.ratio <= self.promise.limit


def measure_steps(effort: Effort) -> Iterator[StepRow]:
    """Time every program with and without guard."""
    yield from _short(effort)
    wide = partial(mlp_gan, width=256)
    yield from _long("two wide MLPs", wide, effort)
    yield from _long("convolutional GAN", conv_gan, effort)
    yield from _long("SAC, three networks", SAC, effort)
    for name, make in (("two wide MLPs", wide), ("convolutional GAN", conv_gan)):
        gan = _at_least(make, effort, _LONG, lambda made: made.generator_step)
        guard = gradguard.Guard(gan.models, gan.policy)
        title = f"generator step, filtered: {name}"
        filtered = {title: _guarded(partial(gan.filtered_step, guard), guard)}
        promises = {title: Promise(0.90, _LONG * 1e3)}
        yield from _rows(gan.generator_step, filtered, promises, effort)


def _long(
    name: str, make: Callable[[int, torch.device], Program], effort: Effort
) -> Iterator[StepRow]:
    program = _at_least(make, effort, _LONG, lambda made: made.step)
    guard = gradguard.Guard(program.models, program.policy)
    guarded = {name: _guarded(program.step, guard)}
    yield from _rows(program.step, guarded, {name: Promise(1.02, _LONG * 1e3)}, effort)


def _short(effort: Effort) -> Iterator[StepRow]:
    """Time the short step, also with graphs walked at every n-th backward only."""
    programs = [mlp_gan(batch, effort.device) for batch in (16, 32, 64, 128, 256, 512)]
    program = min(programs, key=lambda made: abs(typical(made.step, effort.clock) - _SHORT))
    guarded, promises = {}, {}
    for every in _EVERY:
        name = "two small MLPs" if every == 1 else f"two small MLPs, every={every}"
        guard = gradguard.Guard(program.models, program.policy, every=every)
        guarded[name] = _guarded(program.step, guard)
        promises[name] = Promise(1.10, shortest_ms=1.0, longest_ms=2.0)
    # A sample covers whole periods of `every`, so that it is their mean.
    yield from _rows(program.step, guarded, promises, effort, repeats=max(_EVERY))


def _guarded(step: Callable[[], None], guard: gradguard.Guard) -> Contestant:
    return Contestant(step, lambda: guard)


def _rows(
    plain: Callable[[], None],
    guarded: Mapping[str, Contestant],
    promises: Mapping[str, Promise],
    effort: Effort,
    *,
    repeats: int | None = None,
) -> Iterator[StepRow]:
    everyone = {"plain": Contestant(plain), "control": Contestant(plain), **guarded}
    count = repeats or max(1, round(_SAMPLE / typical(plain, effort.clock)))
    # Attempts are chosen by the control alone, so the choice cannot favour the guard.
    attempts: list[Samples] = []
    for _ in range(_ATTEMPTS):
        attempts.append(
            interleave(everyone, rounds=effort.rounds, repeats=count, clock=effort.clock)
        )
        best = min(attempts, key=_noise)
        plain_s = statistics.median(best["plain"])
        if _noise(best) <= _tolerance(plain_s) / 2:
            break
    for name, promise in promises.items():
        yield StepRow(
            name=name,
            plain_ms=plain_s * 1e3,
            ratio=ratio(best, name, "plain"),
            control=ratio(best, "control", "plain"),
            rounds=effort.rounds,
            promise=promise,
        )


def _tolerance(seconds: float) -> float:
    """Return how far the control of a step of this length may be from 1."""
    return _ROUGHLY if seconds < _BELOW else _CLOSELY


def _noise(samples: Samples) -> float:
    return abs(ratio(samples, "control", "plain") - 1)


def _at_least(
    make: Callable[[int, torch.device], P],
    effort: Effort,
    seconds: float,
    step: Callable[[P], Callable[[], None]],
) -> P:
    """Make a program with a batch so large that a step takes a tenth more than ``seconds``."""
    batch = 64
    while True:
        program = make(batch, effort.device)
        taken = typical(step(program), effort.clock, tries=5)
        if taken >= 1.1 * seconds or batch >= 1 << 18:
            return program
        batch = int(batch * min(4.0, max(1.2, 1.2 * seconds / taken)))

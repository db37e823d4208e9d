"""Timing by interleaved rounds, so that whatever else the machine does hits all alike."""

from __future__ import annotations

import ctypes
import functools
import gc
import itertools
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch

__all__ = [
    "CLOCKS",
    "Clock",
    "Contestant",
    "Samples",
    "hold_heap",
    "interleave",
    "ratio",
    "typical",
]

_COLLECT_EVERY = 10

Samples = dict[str, list[float]]


class Clock(Protocol):
    """Something that says how many seconds a piece of work takes."""

    def __call__(self, work: Callable[[], None]) -> float:
        """Do the work once and return the seconds it took."""


def _wall(work: Callable[[], None]) -> float:
    start = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - start) / 1e9


def _cpu(work: Callable[[], None]) -> float:
    start = time.process_time_ns()
    work()
    return (time.process_time_ns() - start) / 1e9


def _cuda(work: Callable[[], None]) -> float:
    start = torch.cuda.Event(enable_timing=True)
    end = torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1e3


CLOCKS: Mapping[str, Clock] = {"wall": _wall, "cpu": _cpu, "cuda": _cuda}
"""``wall`` is what a user waits; ``cpu`` leaves out what other processes take from a busy machine;
``cuda`` is what the device needs from the first kernel to the last."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to run a step.

    Attributes:
        step: Runs one step.
        around: Makes the context in which samples are taken; entering it is not timed.
    """

    step: Callable[[], None]
    around: Callable[[], AbstractContextManager[Any]] = nullcontext


@contextmanager
def _no_collector() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def hold_heap() -> bool:
    """Keep freed memory within the process, where the C library is glibc.

    Otherwise large blocks go back to the system and return as page faults, thousands in one
    sample and none in the next, which drowns what is measured.

    Returns:
        Whether the C library took the advice.
    """
    try:
        advise = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    trim_threshold, mmap_max = -1, -4
    return bool(advise(trim_threshold, (1 << 31) - 1)) and bool(advise(mmap_max, 0))


def interleave(
    contestants: Mapping[str, Contestant], *, rounds: int, repeats: int, clock: Clock
) -> Samples:
    """Time all contestants in turn, ``rounds`` times.

    Each round's order is random and the next round runs in the opposite order, so that nobody
    profits from always running before or after somebody else. Every sample is preceded by a step
    that is not timed.

    Args:
        contestants: What to time, by name.
        rounds: How many samples to take of each.
        repeats: How many steps make one sample.
        clock: How to measure a sample.

    Returns:
        For each contestant its seconds per step, in the order of the rounds.
    """
    samples: Samples = {name: [] for name in contestants}
    chance = random.Random(0)  # noqa: S311  an order, not a secret
    order = list(contestants)
    with _no_collector():
        for number in range(rounds):
            if number % _COLLECT_EVERY == 0:
                gc.collect()
            if number % 2:
                order.reverse()
            else:
                chance.shuffle(order)
            for name in order:
                contestant = contestants[name]
                with contestant.around():
                    contestant.step()
                    seconds = clock(functools.partial(_repeat, contestant.step, repeats))
                samples[name].append(seconds / repeats)
    return samples


def _repeat(step: Callable[[], None], repeats: int) -> None:
    for _ in itertools.repeat(None, repeats):
        step()


def typical(step: Callable[[], None], clock: Clock, tries: int = 9) -> float:
    """Return the median seconds of some runs, after one that is not timed."""
    step()
    return statistics.median(clock(step) for _ in range(tries))


def ratio(samples: Samples, name: str, to: str) -> float:
    """Return the median, over the rounds, of one contestant's time against another's."""
    pairs = zip(samples[name], samples[to], strict=True)
    return statistics.median(mine / theirs for mine, theirs in pairs)

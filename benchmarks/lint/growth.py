"""How the time of linting grows: with the files of a project, and with the lines of a function."""

from __future__ import annotations

import gc
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gradguard.lint import Sources, lint_sources

__all__ = ["STEEPEST", "GrowthRow", "measure_growth"]

STEEPEST = 1.15
"""The exponent up to which growth passes for linear; 2 would be quadratic."""


@dataclass(frozen=True, slots=True)
class GrowthRow:
    """How time grows with one size.

    Attributes:
        name: What grows.
        sizes: Its sizes.
        seconds: Seconds of processor time at each.
        exponent: The slope of the line through their logarithms, over the larger half of the sizes.
    """

    name: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    exponent: float

    @property
    def holds(self) -> bool:
        """True if time grows no faster than the size does."""
        return self.exponent <= STEEPEST


def measure_growth(*, quick: bool) -> Iterator[GrowthRow]:
    """Lint what grows, at each of its sizes."""
    files = (10, 30, 100, 300) if quick else (10, 30, 100, 300, 1_000)
    lines = (10, 100, 1_000) if quick else (10, 100, 1_000, 3_000, 10_000)
    yield _measure("files of a project", files, _project)
    yield _measure("lines of a function", lines, _function)


def _measure(name: str, sizes: tuple[int, ...], write: Callable[[Path, int], None]) -> GrowthRow:
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            (Path(folder) / str(size)).mkdir()
            write(Path(folder) / str(size), size)
        _lint(Path(folder) / str(sizes[0]))  # What is loaded once is not the first size's to pay.
        seconds = tuple(_lint(Path(folder) / str(size)) for size in sizes)
    half = len(sizes) // 2
    xs, ys = [math.log(one) for one in sizes[half:]], [math.log(one) for one in seconds[half:]]
    return GrowthRow(name, sizes, seconds, statistics.linear_regression(xs, ys).slope)


def _lint(folder: Path) -> float:
    gc.collect()
    started = time.process_time()
    findings = lint_sources(Sources.find([folder]), jobs=1)
    taken = time.process_time() - started
    if any(finding.code == "GG902" for finding in findings):
        raise RuntimeError(f"a generated file could not be looked at: {findings[0].message}")
    return taken


def _project(folder: Path, size: int) -> None:
    """Write a package in which each module trains a network of the module before it."""
    (folder / "pyproject.toml").touch()
    (folder / "__init__.py").touch()
    for number in range(size):
        before = f"from .m{number - 1} import Net as Other" if number else "Other = nn.Identity"
        (folder / f"m{number}.py").write_text(_MODULE.format(before=before), encoding="utf-8")


_MODULE = """\
import torch
from torch import nn

{before}


class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, x):
        return self.body(x)


class Trainer:
    def __init__(self):
        self.actor, self.critic, self.other = Net(), Net(), Other()
        self.actor_opt = torch.optim.Adam(self.actor.parameters())
        self.critic_opt = torch.optim.Adam(self.critic.parameters())

    def train(self, loader):
        for x, y in loader:
            critic_loss = (self.critic(self.actor(x).detach()) - y).pow(2).mean()
            self.critic_opt.zero_grad()
            critic_loss.backward()
            self.critic_opt.step()
            actor_loss = -self.critic(self.actor(x)).mean()
            self.actor_opt.zero_grad()
            actor_loss.backward()
            self.actor_opt.step()
"""


def _function(folder: Path, size: int) -> None:
    """Write one function of a training loop, ever longer."""
    (folder / "pyproject.toml").touch()
    head = [
        "import torch",
        "from torch import nn",
        "",
        "def train(loader):",
        "    net = nn.Linear(8, 8)",
        "    opt = torch.optim.SGD(net.parameters(), lr=0.1)",
        "    for x, y in loader:",
    ]
    turn = [
        "        out = net(x)",
        "        loss = (out - y).pow(2).mean()",
        "        opt.zero_grad()",
        "        loss.backward()",
        "        opt.step()",
    ]
    body = [turn[number % len(turn)] for number in range(max(size - 4, len(turn)))]
    (folder / "train.py").write_text("\n".join([*head, *body]) + "\n", encoding="utf-8")

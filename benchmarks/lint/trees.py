"""A tree of source: linted, parsed by LibCST, and checked by TorchFix."""

from __future__ import annotations

import gc
import importlib.util
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import libcst

from gradguard.core.findings import Finding
from gradguard.lint import Sources, lint_sources

__all__ = ["LIMITS", "TreeRow", "locate", "measure_tree"]

LIMITS = {"parse": 1.5, "torchfix": 0.1, "peak": 500.0}
"""Lint's share of a parse and of TorchFix, and its peak memory in MB."""


@dataclass(frozen=True, slots=True)
class TreeRow:
    """What one tree costs.

    Attributes:
        name: How the tree was asked for.
        files: Files in it.
        lines: Lines in them.
        findings: What lint reports of them.
        unreadable: How many of these say that a file could not be looked at.
        lint_s: Seconds of processor time for linting in this process, without start-up.
        parse_s: Seconds of processor time for ``libcst.parse_module`` over the same files.
        ratio: The median of their ratios, each taken side by side.
        peak_mb: Peak memory of a process that lints the tree.
        command_s: Seconds of processor time of that process, with its start.
        torchfix_s: Seconds of processor time of TorchFix, or ``None`` if it was not there.
    """

    name: str
    files: int
    lines: int
    findings: int
    unreadable: int
    lint_s: float
    parse_s: float
    ratio: float
    peak_mb: float
    command_s: float
    torchfix_s: float | None

    @property
    def torchfix_ratio(self) -> float | None:
        """The share of TorchFix's time that the command takes."""
        return None if self.torchfix_s is None else self.command_s / self.torchfix_s

    @property
    def holds(self) -> bool:
        """True if every figure that was taken is within its limit."""
        beside = self.torchfix_ratio
        return (
            self.ratio <= LIMITS["parse"]
            and self.peak_mb <= LIMITS["peak"]
            and (beside is None or beside <= LIMITS["torchfix"])
        )


def locate(name: str) -> Path:
    """Return the folder that a path or the name of an installed package leads to.

    Raises:
        LookupError: If it leads nowhere.
    """
    path = Path(name)
    if path.is_dir():
        return path.resolve()
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    if found is None or not found.submodule_search_locations:
        raise LookupError(f"`{name}` is neither a folder nor an installed package")
    return Path(next(iter(found.submodule_search_locations)))


def measure_tree(name: str, *, rounds: int, torchfix: str | None) -> TreeRow:
    """Take the figures of one tree.

    Args:
        name: A folder or an installed package.
        rounds: How often to lint and parse side by side.
        torchfix: The command that runs TorchFix, or ``None`` to leave it out.
    """
    root = locate(name)
    sources = Sources.find([root])
    contents = [source.path.read_bytes() for source in sources.files]
    lints, parses, findings = [], [], list[Finding]()
    for _ in range(rounds):
        started = time.process_time()
        findings = lint_sources(Sources.find([root]), jobs=1)
        lints.append(time.process_time() - started)
        gc.collect()
        started = time.process_time()
        _parse(contents)
        parses.append(time.process_time() - started)
        gc.collect()
    own = [sys.executable, "-m", "gradguard", "lint", "--jobs=1", "--no-cache", "--exit-zero"]
    command_s, peak_mb = _child([*own, "--output-format=json", str(root)])
    other_s = None if torchfix is None else _child([torchfix, "-j", "1", str(root)])[0]
    return TreeRow(
        name=root.name,
        files=len(contents),
        lines=sum(content.count(b"\n") for content in contents),
        findings=len(findings),
        unreadable=sum(finding.code == "GG902" for finding in findings),
        lint_s=statistics.median(lints),
        parse_s=statistics.median(parses),
        ratio=statistics.median(a / b for a, b in zip(lints, parses, strict=True)),
        peak_mb=peak_mb,
        command_s=command_s,
        torchfix_s=other_s,
    )


def _parse(contents: Sequence[bytes]) -> None:
    for content in contents:
        try:
            libcst.parse_module(content)
        except (libcst.ParserSyntaxError, UnicodeDecodeError, RecursionError):
            continue


def _child(command: Sequence[str]) -> tuple[float, float]:
    """Run a program; return the seconds of processor time and the peak MB that it took."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    peak = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return usage.ru_utime + usage.ru_stime, peak

"""The figures as tables and as JSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.lint.growth import GrowthRow
from benchmarks.lint.trees import LIMITS, TreeRow

__all__ = ["print_growth", "print_trees", "write"]


def _verdict(row: TreeRow | GrowthRow) -> str:
    return "[green]holds[/]" if row.holds else "[red]does not hold[/]"


def print_trees(rows: Sequence[TreeRow], console: Console) -> None:
    """Print what the trees cost."""
    table = Table(title="Lint against a LibCST parse and against TorchFix, processor time")
    for heading in ("tree", "files", "kLOC", "lint", "parse", "ratio", "TorchFix", "peak", ""):
        table.add_column(heading, justify="left" if heading in ("tree", "") else "right")
    for row in rows:
        beside = row.torchfix_ratio
        table.add_row(
            row.name,
            f"{row.files:,}",
            f"{row.lines / 1000:.0f}",
            f"{row.lint_s:.1f} s",
            f"{row.parse_s:.1f} s",
            f"{row.ratio:.2f}",
            "not taken" if beside is None else f"{1 / beside:.0f} times",
            f"{row.peak_mb:.0f} MB",
            _verdict(row),
        )
    console.print(table)


def print_growth(rows: Sequence[GrowthRow], console: Console) -> None:
    """Print how time grows."""
    table = Table(title="Growth of lint")
    for heading in ("what grows", "sizes", "milliseconds for one", "exponent", ""):
        table.add_column(heading)
    for row in rows:
        each = [f"{1000 * s / n:.2f}" for n, s in zip(row.sizes, row.seconds, strict=True)]
        sizes = ", ".join(f"{size:,}" for size in row.sizes)
        table.add_row(row.name, sizes, ", ".join(each), f"{row.exponent:.2f}", _verdict(row))
    console.print(table)


def write(path: Path, trees: Sequence[TreeRow], growth: Sequence[GrowthRow]) -> None:
    """Write all figures, and what they were taken with, as JSON."""
    document = {
        "settings": {
            "processor": platform.machine(),
            "python": platform.python_version(),
            "limits": LIMITS,
        },
        "trees": [
            {**_rounded(asdict(row)), "torchfix_ratio": _rounded(row.torchfix_ratio)}
            | {"holds": row.holds}
            for row in trees
        ],
        "growth": [{**_rounded(asdict(row)), "holds": row.holds} for row in growth],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return round(value, 4)
        case dict():
            return {key: _rounded(one) for key, one in value.items()}
        case list() | tuple():
            return [_rounded(one) for one in value]
        case _:
            return value

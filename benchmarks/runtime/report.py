"""The figures as tables and as JSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.runtime.growth import GrowthRow
from benchmarks.runtime.steps import StepRow

__all__ = ["print_growth", "print_steps", "write"]

Row = StepRow | GrowthRow


def _verdict(row: Row) -> str:
    if row.objection is not None:
        return f"[yellow]does not count: {row.objection}[/]"
    return "[green]holds[/]" if row.holds else "[red]does not hold[/]"


def print_steps(rows: Sequence[StepRow], console: Console) -> None:
    """Print the steps, each program followed by its A/A row."""
    table = Table(title="Guarded against unguarded steps")
    for heading in ("step", "plain", "ratio", "limit", "pairs", ""):
        right = heading in ("plain", "ratio", "limit", "pairs")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for number, row in enumerate(rows):
        limit = f"{row.promise.limit:.2f}"
        shown = f"{row.plain_ms:.2f} ms"
        table.add_row(row.name, shown, f"{row.ratio:.3f}", limit, str(row.rounds), _verdict(row))
        following = rows[number + 1] if number + 1 < len(rows) else None
        if following is None or following.control != row.control:
            allowed = f"±{row.tolerance}"
            table.add_row(
                "  A/A", shown, f"{row.control:.3f}", allowed, str(row.rounds), style="dim"
            )
    console.print(table)


def print_growth(rows: Sequence[GrowthRow], console: Console) -> None:
    """Print the fitted lines, each followed by its A/A row."""
    table = Table(title="Cost of a checked step by size")
    for heading in ("what grows", "sizes", "slope", "at zero", "limit", "line", ""):
        right = heading in ("slope", "at zero", "limit", "line")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.sizes[0]} to {row.sizes[-1]:,}",
            f"{row.slope_us:.2f} us/{row.unit}",
            f"{row.base_us:.0f} us",
            f"{row.limit_us:.1f} us",
            f"{row.correlation:.4f}",
            _verdict(row),
        )
        control = f"{row.control_us:+.3f} us/{row.unit}"
        table.add_row("  A/A", "", control, "", f"±{0.1 * row.limit_us:.2f} us", "", style="dim")
    console.print(table)


def write(
    path: Path, steps: Sequence[StepRow], growth: Sequence[GrowthRow], settings: dict[str, Any]
) -> None:
    """Write all figures, and what they were taken with, as JSON."""
    device = str(settings["device"])
    made_by = torch.cuda.get_device_name() if device.startswith("cuda") else platform.machine()
    document = {
        "settings": {
            **settings,
            "processor": made_by,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "threads": torch.get_num_threads(),
        },
        "steps": [_plain(row) for row in steps],
        "growth": [_plain(row) for row in growth],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _plain(row: Row) -> dict[str, Any]:
    figures = {key: _rounded(value) for key, value in asdict(row).items() if key != "promise"}
    limit = {"limit": row.promise.limit} if isinstance(row, StepRow) else {}
    return {**figures, **limit, "holds": row.holds, "objection": row.objection}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, tuple | list):
        return [_rounded(part) for part in value]
    return value

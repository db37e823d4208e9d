"""Take the figures, print them, write them down, and fail if one that counts is not as promised."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import click
import torch
from rich.console import Console

from benchmarks.runtime.growth import GrowthRow, measure_growth
from benchmarks.runtime.report import print_growth, print_steps, write
from benchmarks.runtime.steps import Effort, StepRow, measure_steps
from benchmarks.runtime.timing import CLOCKS, hold_heap

Row = TypeVar("Row", StepRow, GrowthRow)


@click.command()
@click.option("--quick", is_flag=True, help="Fewest samples that still count; growth with fewer.")
@click.option(
    "--json",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("benchmarks/results/runtime.json"),
    show_default=True,
    help="Where to write the figures.",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option(
    "--clock",
    type=click.Choice(["wall", "cpu"]),
    default="wall",
    show_default=True,
    help="On a busy machine `cpu` leaves out what others take; a CUDA device has its own clock.",
)
@click.option(
    "--part",
    type=click.Choice(["all", "steps", "growth"]),
    default="all",
    show_default=True,
    help="Take only some of the figures.",
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
def main(*, quick: bool, path: Path, device: str, clock: str, part: str, threads: int) -> None:
    """Measure what a guard costs."""
    if device == "cuda" and not torch.cuda.is_available():
        raise click.UsageError("this PyTorch finds no CUDA device; use --device cpu")
    torch.set_num_threads(threads)
    held = hold_heap()
    clock = "cuda" if device == "cuda" else clock
    console = Console(width=None if sys.stdout.isatty() else 120)
    progress = Console(stderr=True)
    place = torch.device(device)
    steps = Effort(rounds=30 if quick else 60, device=place, clock=CLOCKS[clock])
    growth = Effort(rounds=12 if quick else 30, device=place, clock=CLOCKS[clock])
    step_rows = _taken(measure_steps(steps), progress) if part != "growth" else []
    growth_rows = _taken(measure_growth(growth), progress) if part != "steps" else []
    if step_rows:
        print_steps(step_rows, console)
    if growth_rows:
        print_growth(growth_rows, console)
    write(
        path,
        step_rows,
        growth_rows,
        {"device": device, "clock": clock, "quick": quick, "heap_held": held},
    )
    console.print(f"written to {path}")
    rows: list[StepRow | GrowthRow] = [*step_rows, *growth_rows]
    if any(row.holds is False for row in rows):
        sys.exit(1)


def _taken(rows: Iterable[Row], progress: Console) -> list[Row]:
    taken = []
    for row in rows:
        taken.append(row)
        progress.print(f"[dim]measured: {row.name}[/]")
    return taken


if __name__ == "__main__":
    main()

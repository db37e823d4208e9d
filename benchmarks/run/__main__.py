"""Run each program alone and under observation in turn; compare weights and time."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from rich.console import Console
from rich.table import Table

from benchmarks.run.programs import PROGRAMS, Program, prepare, published

LIMIT = 1.15
_ROOT = Path(__file__).resolve().parents[2]
_CHECKSUM = "checksum of all weights:"


@dataclass(frozen=True)
class Turn:
    """One run of a program.

    Attributes:
        wall: Seconds.
        cpu: Seconds of the processor.
        checksum: Of all weights at the end.
        out: What it wrote.
    """

    wall: float
    cpu: float
    checksum: str
    out: str


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: The program.
        seconds: What it takes alone, in seconds of the processor.
        ratio: The median over pairs of what it takes observed to what it takes alone.
        wall: The same of the clock on the wall.
        same: Whether all runs ended with the same weights.
        findings: What was reported, by code and line.
    """

    name: str
    seconds: float
    ratio: float
    wall: float
    same: bool
    findings: list[str]


@click.command()
@click.option("--folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--only", multiple=True, help="Only these programs.")
@click.option("--pairs", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--quick", is_flag=True, help="Fewer steps.")
@click.option(
    "--json",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("benchmarks/results/run.json"),
    show_default=True,
)
def main(
    *, folder: Path | None, only: tuple[str, ...], pairs: int, quick: bool, path: Path
) -> None:
    """Measure what `gradguard run` costs and changes on the scripts of cleanrl 1.2.0."""
    try:
        source = folder or published()
        chosen = [p for p in PROGRAMS if not only or p.name in only]
        with TemporaryDirectory() as scratch:
            rows = [_measured(p, source, Path(scratch), pairs, quick=quick) for p in chosen]
    except LookupError as error:
        raise click.ClickException(str(error)) from None
    _print(rows)
    path.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
    if not all(row.same and row.ratio <= LIMIT for row in rows):
        sys.exit(1)


def _measured(program: Program, source: Path, scratch: Path, pairs: int, *, quick: bool) -> Row:
    script = prepare(program, source, scratch)
    steps = str(program.quick if quick else program.steps)
    command = [str(script), *program.arguments, "--total-timesteps", steps, "--cuda", "False"]
    observing = ["-m", "gradguard", "run", "--fail-on", "never", "--output-format", "json"]
    alone: list[Turn] = []
    observed: list[Turn] = []
    for number in range(pairs):
        first = number % 2
        for observe in (first, not first):
            turn = _run([*observing, *command] if observe else command, scratch)
            (observed if observe else alone).append(turn)
    return Row(
        program.name,
        statistics.median(turn.cpu for turn in alone),
        statistics.median(b.cpu / a.cpu for a, b in zip(alone, observed, strict=True)),
        statistics.median(b.wall / a.wall for a, b in zip(alone, observed, strict=True)),
        len({turn.checksum for turn in (*alone, *observed)}) == 1,
        [
            f"{one['code']} {one['severity']} row {one['location']['row']}: {one['message']}"
            for one in json.loads(observed[0].out[observed[0].out.rindex("\n[") :])
        ],
    )


def _run(command: list[str], folder: Path) -> Turn:
    before, start = _children(), time.perf_counter()
    done = subprocess.run(  # noqa: S603
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    wall, cpu = time.perf_counter() - start, _children() - before
    lines = [line for line in done.stdout.splitlines() if line.startswith(_CHECKSUM)]
    if done.returncode or not lines:
        raise click.ClickException(f"{command} ended with {done.returncode}:\n{done.stderr}")
    return Turn(wall, cpu, lines[0], done.stdout)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _print(rows: list[Row]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 120)
    table = Table("program", "alone", "ratio", "by the clock", f"<= {LIMIT}", "weights", "findings")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.seconds:.1f} s",
            f"{row.ratio:.3f}",
            f"{row.wall:.3f}",
            "holds" if row.ratio <= LIMIT else "does not hold",
            "identical" if row.same else "DIFFERENT",
            str(len(row.findings)),
        )
    console.print(table)
    for row in rows:
        for finding in row.findings:
            console.print(f"{row.name}: {finding}", markup=False)


if __name__ == "__main__":
    main()

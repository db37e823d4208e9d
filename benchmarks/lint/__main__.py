"""Take the figures, print them, write them down, and fail if one is not as promised."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click
from rich.console import Console

from benchmarks.lint.growth import GrowthRow, measure_growth
from benchmarks.lint.report import print_growth, print_trees, write
from benchmarks.lint.trees import TreeRow, locate, measure_tree

_AT_HAND = ("torch.nn", "torch.optim", "torch.distributions")
"""Trees that are there wherever the project's own requirements are."""

_WISHED = ("torchrl", "stable_baselines3")
"""Trees that are measured as well if they are installed."""

_TORCHFIX = "torchfix==0.7.0"


@click.command()
@click.argument("trees", metavar="[TREE]...", nargs=-1)
@click.option("--quick", is_flag=True, help="One round for each tree, and smaller sizes.")
@click.option(
    "--torchfix",
    metavar="COMMAND",
    help=f"TorchFix, as installed by `pip install {_TORCHFIX}`.  [default: the one on PATH]",
)
@click.option(
    "--part",
    type=click.Choice(["all", "trees", "growth"]),
    default="all",
    show_default=True,
    help="Take only some of the figures.",
)
@click.option(
    "--json",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("benchmarks/results/lint.json"),
    show_default=True,
    help="Where to write the figures.",
)
def main(
    *, trees: tuple[str, ...], quick: bool, torchfix: str | None, part: str, path: Path
) -> None:
    """Measure what linting costs.

    TREE is a folder or the name of an installed package.
    """
    progress = Console(stderr=True)
    command = shutil.which(torchfix or "torchfix")
    if command is None:
        if torchfix is not None:
            raise click.UsageError(f"there is no command `{torchfix}`")
        progress.print(f"TorchFix is left out; for it, `pip install {_TORCHFIX}`")
    tree_rows, growth_rows = [], []
    for name in _names(trees, progress) if part != "growth" else ():
        tree_rows.append(measure_tree(name, rounds=1 if quick else 3, torchfix=command))
        progress.print(f"[dim]measured: {name}[/]")
    if part != "trees":
        growth_rows = list(measure_growth(quick=quick))
    console = Console(width=None if sys.stdout.isatty() else 120)
    if tree_rows:
        print_trees(tree_rows, console)
    if growth_rows:
        print_growth(growth_rows, console)
    write(path, tree_rows, growth_rows)
    console.print(f"written to {path}")
    rows: list[TreeRow | GrowthRow] = [*tree_rows, *growth_rows]
    if not all(row.holds for row in rows):
        sys.exit(1)


def _names(given: tuple[str, ...], progress: Console) -> list[str]:
    """Return the trees to measure: those that were asked for, or those that are at hand."""
    if given:
        for name in given:
            try:
                locate(name)
            except LookupError as error:
                raise click.UsageError(str(error)) from None
        return list(given)
    names = list(_AT_HAND)
    for name in _WISHED:
        try:
            locate(name)
        except LookupError:
            progress.print(f"{name} is left out: it is not installed, nor was its folder named")
        else:
            names.append(name)
    return names


if __name__ == "__main__":
    main()

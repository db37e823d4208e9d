"""How far a run is, as a bar on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["Report", "progress_bar", "silent"]

#: Takes the steps done, the steps to do, and the latest losses by name.
Report = Callable[[int, int, Mapping[str, float]], None]


def silent(_done: int, _total: int, _losses: Mapping[str, float]) -> None:
    """Report nothing."""


@contextmanager
def progress_bar(console: Console | None = None) -> Iterator[Report]:
    """Show a bar while the block runs.

    Args:
        console: Where to show it, by default standard error, so that output can be piped.

    Yields:
        What a run reports to.
    """
    bar = Progress(
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[losses]}"),
        console=console or Console(stderr=True),
    )

    def report(done: int, total: int, losses: Mapping[str, float]) -> None:
        if not bar.tasks:
            # Not before there is progress: a run that cannot start should show its error alone.
            bar.start()
            bar.add_task("training", total=total, losses="")
        shown = "  ".join(f"{name} {value:+.3f}" for name, value in losses.items())
        bar.update(bar.task_ids[0], completed=done, losses=shown)

    try:
        yield report
    finally:
        if bar.tasks:
            bar.stop()

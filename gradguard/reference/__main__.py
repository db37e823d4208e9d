"""``python -m gradguard.reference`` trains the dual-model loop.

Exit status: 0 trained, 1 the guard found a leak, 2 could not run, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

import gradguard
from gradguard.reference import (
    CheckpointError,
    DivergedError,
    Result,
    Settings,
    SettingsError,
    progress_bar,
    run,
)

__all__ = ["main"]

_FOUND, _CANNOT_RUN, _INTERRUPTED = 1, 2, 130


def _setting_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command one option for each setting."""
    for item in reversed(fields(Settings)):
        name = item.name.replace("_", "-")
        flag = isinstance(item.default, bool)
        option = click.option(
            f"--{name}/--no-{name}" if flag else f"--{name}",
            item.name,
            type=None if flag else type(item.default),
            default=item.default,
            metavar="[" + "|".join(names) + "]" if (names := item.metadata["rule"].names) else None,
            show_default=True,
            help=item.metadata["help"],
        )
        command = option(command)
    return command


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@_setting_options
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/reference"),
    show_default=True,
    help="Folder for checkpoint and picture.",
)
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in the folder.")
@click.option("--overwrite", is_flag=True, help="Start anew even if the folder holds a run.")
@click.option(
    "--on-violation",
    type=click.Choice(["raise", "warn", "record"]),
    default="raise",
    show_default=True,
    help="What the guard does about a loss that trains the wrong model.",
)
@click.option("--picture/--no-picture", default=True, help="Draw samples and losses.")
def train(
    *,
    out: Path,
    resume: bool,
    overwrite: bool,
    on_violation: Any,
    picture: bool,
    **settings: Any,
) -> int:
    """Train a critic and a generator side by side, under guard."""
    if resume and overwrite:
        raise SettingsError("resume and overwrite exclude each other")
    with progress_bar() as report:
        result = run(
            Settings(**settings),
            out,
            resume=resume,
            overwrite=overwrite,
            on_violation=on_violation,
            report=report,
            draw=picture,
        )
    _show(result, picture_wanted=picture)
    return _FOUND if result.findings else 0


def _show(result: Result, *, picture_wanted: bool) -> None:
    for finding in result.findings:
        click.echo(str(finding))
    if result.flow is not None:
        click.echo(str(result.flow))
    click.echo(f"{result.quality}, in {result.seconds:.0f} s")
    click.echo(f"checkpoint: {result.checkpoint}")
    if result.picture is not None:
        click.echo(f"picture: {result.picture}")
    elif picture_wanted:
        click.echo("no picture: matplotlib is missing, see pip install 'gradguard[plot]'")


def main() -> int:
    """Run the command line and return its exit status."""
    try:
        return int(train.main(standalone_mode=False) or 0)
    except gradguard.IsolationError as error:
        for finding in error.findings:
            click.echo(str(finding), err=True)
        return _FOUND
    except (SettingsError, CheckpointError, DivergedError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        return _CANNOT_RUN
    except click.ClickException as error:
        click.echo(f"error: {error.format_message()}", err=True)
        return _CANNOT_RUN
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; --resume goes on from the last checkpoint", err=True)
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())

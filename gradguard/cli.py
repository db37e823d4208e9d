"""The command line: how a command is chosen, and how whatever it does ends.

Exit status: 0 nothing to report, 1 findings, 2 could not run, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext

import click

import gradguard
from gradguard.commands.demo import demo
from gradguard.commands.lint import lint
from gradguard.commands.rule import rule
from gradguard.commands.run import run
from gradguard.commands.status import CANNOT_RUN, CLEAN, INTERRUPTED, any_encoding

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Args:
        arguments: What follows the program's name; taken from the process by default.
    """
    if "_GRADGUARD_COMPLETE" in os.environ:
        commands.main(prog_name="gradguard")
    try:
        words = list(sys.argv[1:] if arguments is None else arguments)
        # A program that is run keeps the streams that it would have had.
        with nullcontext() if words[:1] == ["run"] else any_encoding():
            status = _run(words)
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        _silence()
        return CLEAN
    except OSError as error:
        _complain(error)
        return CANNOT_RUN
    except (KeyboardInterrupt, EOFError, click.Abort):
        return INTERRUPTED
    return status


def _run(arguments: list[str]) -> int:
    try:
        with commands.make_context("gradguard", arguments) as context:
            return int(commands.invoke(context) or CLEAN)
    except click.exceptions.Exit as request:
        return request.exit_code
    except click.ClickException as error:
        error.show()
        return CANNOT_RUN
    except (OSError, click.Abort):
        raise
    except Exception:  # noqa: BLE001  Whatever it is, it must not look like a finding.
        traceback.print_exc()
        click.echo("error: gradguard itself failed; please report the lines above", err=True)
        return CANNOT_RUN


def _complain(error: OSError) -> None:
    """Say in one line what could not be read or written, and keep what can still be shown."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        _silence()
    named = error.filename is not None
    what = f"read or write `{error.filename}`" if named else "write what there is to show"
    with contextlib.suppress(OSError, ValueError):
        click.echo(f"error: cannot {what}: {error.strerror or error}", err=True)


def _silence() -> None:
    """Point standard output to nowhere, so that the last flush at exit is quiet as well."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"gradguard {gradguard.__version__}")
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_version,
    help="Show the version and exit.",
)
def commands() -> None:
    """Check which loss trains which model."""


for command in (demo, lint, rule, run):
    commands.add_command(command)

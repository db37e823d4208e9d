"""The command line: ``gradguard rule`` explains a code, ``gradguard demo`` shows a caught leak.

Exit status: 0 nothing to report, 1 findings, 2 could not run, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markdown import Markdown

import gradguard
from gradguard.commands.lint import lint
from gradguard.commands.run import run
from gradguard.commands.status import CANNOT_RUN, CLEAN, FINDINGS, INTERRUPTED, CannotRun, Output
from gradguard.core.codes import Code, UnknownCode, catalogue, code

if TYPE_CHECKING:
    from gradguard.reference import Result

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Args:
        arguments: What follows the program's name; taken from the process by default.
    """
    if "_GRADGUARD_COMPLETE" in os.environ:
        commands.main(prog_name="gradguard")
    try:
        with _any_encoding():
            status = _run(list(sys.argv[1:] if arguments is None else arguments))
            sys.stdout.flush()
    except BrokenPipeError:
        _silence()
        return CLEAN
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
    except (BrokenPipeError, click.Abort):
        raise
    except Exception:  # noqa: BLE001  Whatever it is, it must not look like a finding.
        traceback.print_exc()
        click.echo("error: gradguard itself failed; please report the lines above", err=True)
        return CANNOT_RUN


@contextlib.contextmanager
def _any_encoding() -> Iterator[None]:
    """Show a character that the terminal's encoding lacks as ``?`` rather than fail."""
    changed = [
        (stream, stream.errors)
        for stream in (sys.stdout, sys.stderr)
        if isinstance(stream, io.TextIOWrapper)
    ]
    for stream, _ in changed:
        stream.reconfigure(errors="replace")
    try:
        yield
    finally:
        for stream, errors in changed:
            with contextlib.suppress(BrokenPipeError):
                stream.reconfigure(errors=errors)


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


commands.add_command(lint)
commands.add_command(run)


@commands.command()
@click.argument("wanted", metavar="[CODE]", required=False)
@click.option("--all", "everything", is_flag=True, help="Explain every code.")
@click.option(
    "--output-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="What to write.",
)
def rule(wanted: str | None, everything: bool, output_format: str) -> None:
    """Explain a code of the catalogue, given by code or by name."""
    if everything == (wanted is not None):
        raise click.UsageError("give one CODE, or --all")
    try:
        entries = list(catalogue().values()) if wanted is None else [code(wanted)]
    except UnknownCode as error:
        raise CannotRun(str(error)) from None
    if output_format == "json":
        explained = [_as_data(entry) for entry in entries]
        shown = explained if everything else explained[0]
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    console = Output(highlight=False)
    for number, entry in enumerate(entries):
        text = _as_text(entry)
        if console.is_terminal:
            console.print(Markdown(text))
        else:
            click.echo(text if number == 0 else f"\n{text}")


def _as_text(entry: Code) -> str:
    reported = "on by default" if entry.on_by_default else "off by default"
    head = f"# {entry.name} ({entry.code})\n\n{entry.severity}, {reported}"
    return f"{head}\n\n{entry.doc}"


def _as_data(entry: Code) -> dict[str, Any]:
    return {
        "code": entry.code,
        "name": entry.name,
        "severity": str(entry.severity),
        "on_by_default": entry.on_by_default,
        "halves": list(entry.halves),
        "summary": entry.summary,
        "explanation": entry.doc,
    }


@commands.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/demo"),
    show_default=True,
    help="Folder for picture, checkpoint and report; those of an earlier demo are replaced.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    help="How long to train; by default until the samples are good.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the run."
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where to train.",
)
def demo(out: Path, steps: int | None, seed: int, device: str) -> int:
    """Train two models under guard, then plant a leak and see it caught.

    Exit status: 0 if the planted leak was caught and the clean run had none, 1 if not.
    """
    _require_torch()
    from gradguard.reference import DivergedError, SettingsError, demo_run, progress_bar

    console = Output(highlight=False, soft_wrap=True)
    try:
        _heading(console, 1, "The reference loop under guard: a critic, a generator, a loss each")
        with progress_bar() as report:
            clean = demo_run(out, steps=steps, seed=seed, device=device, report=report)
        _show_run(console, clean)

        _heading(console, 2, "The same loop with one `detach()` left out")
        few = None if steps is None else min(steps, _LEAK_STEPS)
        with TemporaryDirectory() as scratch:
            leaking = demo_run(Path(scratch), plant_leak=True, steps=few, seed=seed, device=device)
        _show(console, leaking)
        _save_report(console, leaking, out / "report.html")
    except BrokenPipeError:
        raise
    except (SettingsError, DivergedError, OSError) as error:
        raise CannotRun(str(error)) from None
    return _conclude(console, clean, leaking)


_LEAK_STEPS = 20
"""More steps only repeat what the first ones show."""


def _require_torch() -> None:
    try:
        import torch  # noqa: F401  Whether it can be loaded is all that is asked.
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise CannotRun(f"PyTorch is installed but cannot be loaded: {error}") from None
        raise CannotRun("the demo needs PyTorch: pip install 'gradguard[torch]'") from None
    except (ImportError, OSError) as error:
        raise CannotRun(f"PyTorch is installed but cannot be loaded: {error}") from None


def _heading(console: Console, number: int, text: str) -> None:
    if number > 1:
        console.print()
    console.print(f"{number}. {text}", style="bold", markup=False)
    console.print()
    console.file.flush()


def _show_run(console: Console, result: Result) -> None:
    _show(console, result)
    console.print()
    steps = result.settings.steps
    console.print(f"quality:  {result.quality}, after {steps} steps in {result.seconds:.0f} s")
    if result.picture is not None:
        console.print(f"picture:  {result.picture}", markup=False)
    else:
        console.print("picture:  none; pip install 'gradguard[plot]'", markup=False)


def _show(console: Console, result: Result) -> None:
    from gradguard.report import show

    show(result.findings, matrix=result.flow, console=console)
    console.file.flush()


def _save_report(console: Console, result: Result, path: Path) -> None:
    """Write what the leaking loop showed as a page."""
    from gradguard.report import html, save

    page = html(
        result.findings,
        matrix=result.flow,
        timeline=result.timeline,
        figures={"steps": result.settings.steps, "seconds": result.seconds},
        title="gradguard demo: the loop with one detach() left out",
    )
    save(path, page)
    console.print()
    console.print(f"report:   {path}", markup=False)


def _conclude(console: Console, clean: Result, leaking: Result) -> int:
    caught = any(
        (finding.loss, finding.model) == ("critic_loss", "generator")
        for finding in leaking.findings
    )
    console.print()
    if clean.findings:
        console.print("The loop is correct, yet something was found in it.", style="bold red")
    if not caught:
        console.print("The planted leak was not caught.", style="bold red")
    if clean.findings or not caught:
        return FINDINGS
    console.print(
        "The guard caught the planted leak, and found nothing in the loop without it.",
        style="bold green",
    )
    return CLEAN

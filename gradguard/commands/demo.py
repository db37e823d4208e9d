"""``gradguard demo``: a loop that keeps its models apart, and a planted leak that is caught."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click
from rich.console import Console

from gradguard.commands.status import CLEAN, FINDINGS, CannotRun, Output
from gradguard.config import Config
from gradguard.core.findings import Finding

if TYPE_CHECKING:
    from gradguard.reference import Result

__all__ = ["demo"]


@click.command()
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
    """Train two models under guard, plant a leak, and see it caught live and in source.

    Exit status: 0 if the planted leak was caught both ways and nothing else was, 1 if not.
    """
    _require_torch()
    from gradguard.reference import DivergedError, SettingsError, demo_run, progress_bar

    console = Output(highlight=False, soft_wrap=True)
    try:
        _heading(console, 1, "Two models side by side, under guard", _LOOP)
        with progress_bar() as report:
            clean = demo_run(out, steps=steps, seed=seed, device=device, report=report)
        _show_run(console, clean)

        _heading(console, 2, "The same loop with one `detach()` left out", _LEAK)
        few = None if steps is None else min(steps, _LEAK_STEPS)
        with TemporaryDirectory() as scratch:
            leaking = demo_run(Path(scratch), plant_leak=True, steps=few, seed=seed, device=device)
        _show(console, leaking)
        _save_report(console, leaking, out / "report.html")

        _heading(console, 3, "The same mistake in source, found without running it", "")
        predicted = _lint(console, out / "leak.py")
    except BrokenPipeError:
        raise
    except (SettingsError, DivergedError, OSError) as error:
        raise CannotRun(str(error)) from None
    return _conclude(console, clean, leaking, predicted)


_LOOP = """\
A critic learns to tell real samples from generated ones, a generator learns to fool it. Each loss
may train one model: critic_loss the critic, generator_loss the generator. The guard checks every
backward and every step."""

_LEAK = """\
Nothing crashes and the losses look as before, but now critic_loss reaches into the generator."""

_PROGRAM = """\
import torch
from torch import nn

generator, critic = nn.Linear(8, 2), nn.Linear(2, 1)
generator_opt = torch.optim.RMSprop(generator.parameters())
critic_opt = torch.optim.RMSprop(critic.parameters())

for _ in range(100):
    real, fake = torch.randn(16, 2), generator(torch.randn(16, 8))
    critic_loss = critic(fake).mean() - critic(real).mean()
    critic_opt.zero_grad()
    critic_loss.backward()
    critic_opt.step()

    generator_loss = -critic(generator(torch.randn(16, 8))).mean()
    generator_opt.zero_grad()
    generator_loss.backward()
    generator_opt.step()
"""

_NEXT = (
    ("gradguard run train.py", "watches your own training program, unchanged"),
    ("gradguard lint", "finds such mistakes in source"),
    ("pytest --gradguard", "watches all tests that run backward"),
    ("gradguard rule GG101", "explains what was found here, and what to write instead"),
)

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


def _heading(console: Console, number: int, title: str, text: str) -> None:
    if number > 1:
        console.print()
    console.print(f"{number}. {title}", style="bold", markup=False)
    console.print()
    if text:
        console.print(text, markup=False)
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


def _lint(console: Console, path: Path) -> list[Finding]:
    """Write a program with the same mistake, and lint it as the command does."""
    from gradguard.lint import Source, Sources, lint_sources
    from gradguard.report import save, show

    save(path, _PROGRAM)
    console.print(f"$ gradguard lint --show-trace {path}", markup=False)
    console.print()
    sources = Sources(files=[Source(path.resolve(), Config(path.parent), _PROGRAM.encode())])
    findings = lint_sources(sources, jobs=1)
    show(findings, console=console)
    return findings


def _conclude(
    console: Console, clean: Result, leaking: Result, predicted: Sequence[Finding]
) -> int:
    caught = _is_leak(leaking.findings)
    foreseen = _is_leak(predicted)
    console.print()
    if clean.findings:
        console.print("The loop is correct, yet something was found in it.", style="bold red")
    if not caught:
        console.print("The planted leak was not caught.", style="bold red")
    if not foreseen:
        console.print("The leak in source was not found.", style="bold red")
    if clean.findings or not (caught and foreseen):
        return FINDINGS
    console.print(
        "The planted leak was caught, live and in source; the loop without it is clean.",
        style="bold green",
    )
    console.print()
    width = max(len(command) for command, _ in _NEXT)
    for command, purpose in _NEXT:
        console.print(f"  {command:{width}}  {purpose}", markup=False)
    return CLEAN


def _is_leak(findings: Sequence[Finding]) -> bool:
    return any(
        (finding.code, finding.loss, finding.model) == ("GG101", "critic_loss", "generator")
        for finding in findings
    )

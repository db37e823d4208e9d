"""A whole run: train, save, measure, draw."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

import gradguard
from gradguard.core.timeline import Timeline
from gradguard.reference import checkpoint, picture
from gradguard.reference.config import Settings, SettingsError
from gradguard.reference.data import Mixture
from gradguard.reference.isolation import OnViolation
from gradguard.reference.models import PairFactory, mlp_pair
from gradguard.reference.progress import Report, silent
from gradguard.reference.quality import Quality, measure
from gradguard.reference.trainer import Trainer

__all__ = ["Result", "demo_run", "run"]

#: Samples that quality is measured on, as usual for this mixture.
_MEASURED = 10_000

#: Samples of each kind in the picture; more only hide each other.
_DRAWN = 2_000


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
        settings: How it was trained.
        quality: How well the generator imitates the mixture.
        seconds: How long the steps of this call took.
        losses: Each loss's value at every step since the run's first.
        findings: What the guard found; empty without a guard.
        flow: Which loss reached which model; None without a guard.
        timeline: The first events of the guard's ledger; None without a guard.
        checkpoint: The file to go on from.
        picture: The picture of samples and losses; None if none was drawn.
    """

    settings: Settings
    quality: Quality
    seconds: float
    losses: dict[str, list[float]]
    findings: tuple[gradguard.Finding, ...]
    flow: gradguard.FlowMatrix | None
    timeline: Timeline | None
    checkpoint: Path
    picture: Path | None


def run(
    settings: Settings,
    out: Path,
    *,
    make_pair: PairFactory = mlp_pair,
    mixture: Mixture | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_violation: OnViolation = "raise",
    report: Report = silent,
    draw: bool = True,
) -> Result:
    """Train on a mixture, and leave a checkpoint and a picture in a folder.

    Args:
        settings: How to train.
        out: The folder; it is made if it is missing.
        make_pair: Builds the two models.
        mixture: What the generator is to imitate.
        resume: Go on from the checkpoint in ``out``.
        overwrite: Start anew even if ``out`` holds a checkpoint.
        on_violation: What the guard does when a loss trains the wrong model.
        report: Told every ``log_every`` steps how far the run is.
        draw: Draw the picture, if matplotlib is installed.

    Raises:
        SettingsError: If the settings make no run, or ``out`` is in use.
        CheckpointError: If there is nothing usable to resume.
        IsolationError: If a loss trains the wrong model, under ``on_violation="raise"``.
        DivergedError: If a loss is no finite number any more.
    """
    mixture = mixture or Mixture()
    saved = _prepare(out, resume=resume, overwrite=overwrite)
    trainer = Trainer(settings, make_pair=make_pair, source=mixture, on_violation=on_violation)
    timeline = None
    if isinstance(trainer.guard, gradguard.Guard):
        ledger = trainer.guard.ledger
        timeline = ledger.timeline = Timeline(trainer.guard.policy, ledger.models)
    if resume:
        trainer.load_state_dict(checkpoint.load(saved))

    def after_step() -> None:
        last = trainer.step == settings.steps
        if last or trainer.step % settings.log_every == 0:
            report(trainer.step, settings.steps, trainer.metrics.read())
        if last or trainer.step % settings.checkpoint_every == 0:
            checkpoint.save(saved, trainer.state_dict())

    begin = time.perf_counter()
    trainer.train(after_step=after_step)
    seconds = time.perf_counter() - begin

    samples = trainer.sample(_MEASURED)
    quality = measure(samples, mixture)
    losses = trainer.metrics.history()
    drawn = out / "samples.png" if draw and picture.available() else None
    if drawn is not None:
        picture.draw(
            drawn,
            real=mixture.draw(_DRAWN, torch.Generator().manual_seed(0)),
            generated=samples[:_DRAWN],
            losses=losses,
            title=f"step {trainer.step}: {quality}",
        )
    return Result(
        settings=settings,
        quality=quality,
        seconds=seconds,
        losses=losses,
        findings=tuple(trainer.guard.findings),
        flow=trainer.guard.flow,
        timeline=timeline,
        checkpoint=saved,
        picture=drawn,
    )


def demo_run(
    out: Path,
    *,
    plant_leak: bool = False,
    steps: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    on_violation: OnViolation = "record",
    report: Report = silent,
) -> Result:
    """Train the reference loop as the demonstration shows it.

    Args:
        out: Where checkpoint and picture go; what an earlier demonstration left is replaced.
        plant_leak: Leave the critic's detach out, so that the guard has something to find.
        steps: How long to train; by default as long as good samples take, or, with a leak planted,
            a few steps.
        seed: Seed of the run.
        device: Where to train.
        on_violation: What the guard does about the leak.
        report: Told how far the run is.

    Raises:
        SettingsError: If the settings make no run.
        IsolationError: If the leak is found, under ``on_violation="raise"``.
    """
    length = steps if steps is not None else 20 if plant_leak else Settings().steps
    settings = Settings(steps=length, seed=seed, device=device, plant_leak=plant_leak)
    return run(
        settings,
        out,
        overwrite=True,
        on_violation=on_violation,
        report=report,
        draw=not plant_leak,
    )


def _prepare(out: Path, *, resume: bool, overwrite: bool) -> Path:
    """Make the folder, and return the checkpoint's place in it."""
    saved = out / "checkpoint.pt"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"cannot make the folder {out}: {error.strerror}") from error
    if saved.exists() and not (resume or overwrite):
        raise SettingsError(
            f"{out} holds a run already; use --resume, --overwrite, or another folder"
        )
    return saved

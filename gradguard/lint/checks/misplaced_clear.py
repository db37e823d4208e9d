"""GG204: an optimizer that steps only after its gradient was cleared away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gradguard.core.findings import Finding
from gradguard.lint.checks._common import finding, known
from gradguard.lint.run import BackwardAt, ClearAt, StepAt
from gradguard.lint.story import Story
from gradguard.lint.values import Optimizer, Unit

__all__ = ["check"]


@dataclass(frozen=True, slots=True)
class _Lost:
    """A step before which a clear has removed what a loss had put there."""

    event: BackwardAt
    clear: ClearAt
    step: StepAt
    unit: Unit


def check(story: Story) -> Iterator[Finding]:
    """Look for optimizers whose every step finds nothing, since a clear came first."""
    for optimizer in story.optimizers:
        if not known(optimizer) or any(unit.escaped for unit in optimizer.units):
            continue
        lost = _lost(story, optimizer)
        if len(lost) < 2:
            continue
        first = lost[0]
        model = story.of_unit.get(first.unit)
        if model is None:
            continue
        name, loss = story.name(optimizer), story.losses[id(first.event)]
        yield finding(
            "GG204",
            f"`{name}` steps `{model.name}` after the gradient of `{loss}` was cleared away",
            first.step.site,
            [
                (first.event.site, f"`{loss}` puts gradient into `{model.name}`"),
                (first.clear.site, "and it is cleared here, before any step"),
                (first.step.site, f"`{name}` finds nothing to step `{model.name}` with"),
            ],
            loss=loss,
            model=model.name,
            help_text=f"`{name}.step()` before the gradients are cleared again",
        )


def _lost(story: Story, optimizer: Optimizer) -> list[_Lost]:
    """Return every step of an optimizer, if none of them finds gradient that a loss had left."""
    lying: dict[Unit, BackwardAt] = {}
    spent: set[Unit] = set()
    gone: dict[Unit, tuple[BackwardAt, ClearAt]] = {}
    lost: list[_Lost] = []
    for event in story.run.events:
        match event:
            case BackwardAt():
                fresh = [unit for unit in event.flow if unit in optimizer.units]
                lying.update(dict.fromkeys(fresh, event))
                spent.difference_update(fresh)
            case ClearAt():
                for unit in event.units:
                    if unit in lying and unit not in spent:
                        gone[unit] = lying[unit], event
                    lying.pop(unit, None)
            case StepAt() if event.optimizer is optimizer:
                if lying or not gone:
                    return []
                unit, (source, clear) = next(iter(gone.items()))
                lost.append(_Lost(source, clear, event, unit))
                gone.clear()
            case _:
                continue
    return lost

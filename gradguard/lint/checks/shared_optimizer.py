"""GG201: one optimizer steps for two losses, one of which only passes through what it moves."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from gradguard.core.findings import Finding
from gradguard.lint.checks._common import finding, root, windows
from gradguard.lint.run import BackwardAt
from gradguard.lint.story import Model, Story
from gradguard.lint.values import Optimizer

__all__ = ["check"]


def check(story: Story) -> Iterator[Finding]:
    """Compare the losses after each of which the same optimizer steps."""
    by_optimizer: dict[int, tuple[Optimizer, dict[str, BackwardAt]]] = {}
    turns: dict[int, list[str]] = {}
    for window in windows(story):
        if len(window.backwards) != 1 or len({id(s.optimizer) for s in window.steps}) != 1:
            continue
        optimizer, event = window.steps[0].optimizer, window.backwards[0]
        losses = by_optimizer.setdefault(id(optimizer), (optimizer, {}))[1]
        losses.setdefault(story.losses[id(event)], event)
        turns.setdefault(id(optimizer), []).append(story.losses[id(event)])
    for optimizer, losses in by_optimizer.values():
        order = turns[id(optimizer)]
        if sum(1 for a, b in itertools.pairwise(order) if a != b) < 2:
            # One phase of training after another is no taking turns.
            continue
        # Losses that reach the same are one to compare with: a long program has many.
        unlike = {frozenset(event.flow): loss for loss, event in reversed(losses.items())}
        for loss, event in losses.items():
            for other in reversed(unlike.values()):
                if other == loss:
                    continue
                second = losses[other]
                passed = _passed(story, optimizer, event, second)
                if passed is None:
                    continue
                name = story.name(optimizer)
                yield finding(
                    "GG201",
                    f"`{name}` steps after `{loss}` too, which only passes through "
                    f"`{passed.name}`, and moves it against `{other}`",
                    event.site,
                    [
                        (optimizer.site, f"`{name}` holds `{passed.name}` and more"),
                        (second.site, f"`{other}` trains `{passed.name}`"),
                        (event.site, f"`{loss}` passes through `{passed.name}`"),
                    ],
                    loss=loss,
                    model=passed.name,
                    help_text=f"give `{passed.name}` an optimizer of its own",
                )
                break


def _passed(
    story: Story, optimizer: Optimizer, event: BackwardAt, other: BackwardAt
) -> Model | None:
    """Return a model that ``other`` trains and ``event`` passes on the way to one of its own."""
    trained = story.reached(other)
    for model, arrivals in story.reached(event).items():
        if model not in trained or optimizer not in model.holders or not model.sure:
            continue
        if any(unit not in other.flow for unit in model.units if unit in event.flow):
            continue
        for arrival in arrivals:
            for unit in arrival.behind:
                behind = story.of_unit.get(unit)
                if behind is None or behind in trained or optimizer not in behind.holders:
                    continue
                if root(unit) is not root(model.units[0]) and arrival.sure and not unit.bare:
                    return model
    return None

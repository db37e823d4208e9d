"""GG202: a parameter in two optimizers that both step it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from gradguard.core.findings import Finding
from gradguard.lint.checks._common import finding, windows
from gradguard.lint.story import Model, Story
from gradguard.lint.values import Optimizer

__all__ = ["check"]


def check(story: Story) -> Iterator[Finding]:
    """Look for models that two optimizers hold which take turns."""
    order = [step.optimizer for step in story.steps]
    reported: set[frozenset[int]] = set()
    for model in story.models:
        found = [one for one in model.holders if _holds(story, one, model)]
        holders = [
            one
            for one in found
            if any(two is not one and _in_turn(order, one, two) for two in found)
        ]
        if len(holders) < 2 or not _new(holders, reported):
            continue
        names = [f"`{story.name(one)}`" for one in holders]
        yield finding(
            "GG202",
            f"`{model.name}` is in {', in '.join(names[:-1])} and in {names[-1]}, and "
            f"{'both' if len(names) == 2 else 'all'} step it",
            holders[0].site,
            [
                (one.site, f"{name} holds `{model.name}`{' as well' if number else ''}")
                for number, (one, name) in enumerate(zip(holders, names, strict=True))
            ],
            model=model.name,
            help_text=f"leave `{model.name}` to one of them",
        )


def _new(holders: list[Optimizer], reported: set[frozenset[int]]) -> bool:
    """Say whether some two of these have not been reported yet, and note that they now are."""
    pairs = {frozenset({id(one), id(two)}) for one, two in itertools.combinations(holders, 2)}
    fresh = not pairs <= reported
    reported |= pairs
    return fresh


def _holds(story: Story, optimizer: Optimizer, model: Model) -> bool:
    """Say whether an optimizer is sure to hold all of a model, and ever steps it with gradient."""
    partly = any(unit in optimizer.partly for unit in model.units)
    return optimizer.site is not None and not partly and _fed(story, optimizer, model)


def _fed(story: Story, optimizer: Optimizer, model: Model) -> bool:
    """Say whether an optimizer ever steps a model after a loss that reaches it."""
    return any(
        unit in event.flow
        for window in windows(story)
        if any(step.optimizer is optimizer for step in window.steps)
        for event in window.backwards
        for unit in model.units
    )


def _in_turn(order: list[Optimizer], one: Optimizer, two: Optimizer) -> bool:
    """Say whether each steps again after the other: not where one replaces the other."""
    turns = [step for step in order if step is one or step is two]
    changes = sum(1 for a, b in itertools.pairwise(turns) if a is not b)
    return changes >= 2

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
    reported: set[tuple[int, int]] = set()
    for model in story.models:
        for number, one in enumerate(model.holders):
            for two in model.holders[number + 1 :]:
                pair = (id(one), id(two))
                if pair in reported or one.site is None or two.site is None:
                    continue
                if any(unit in one.partly or unit in two.partly for unit in model.units):
                    continue
                if one.site == two.site or not _in_turn(order, one, two):
                    continue
                if not _fed(story, one, model) or not _fed(story, two, model):
                    continue
                reported.add(pair)
                yield finding(
                    "GG202",
                    f"`{model.name}` is in `{story.name(one)}` and in `{story.name(two)}`, "
                    "and both step it",
                    one.site,
                    [
                        (one.site, f"`{story.name(one)}` holds `{model.name}`"),
                        (two.site, f"`{story.name(two)}` holds `{model.name}` as well"),
                    ],
                    model=model.name,
                    help_text=f"leave `{model.name}` to one of them",
                )


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

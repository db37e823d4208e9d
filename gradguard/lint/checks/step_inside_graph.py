"""GG205: an optimizer steps between a loss's forward and its backward through what it steps."""

from __future__ import annotations

from collections.abc import Iterator

from gradguard.core.findings import Finding
from gradguard.lint.checks._common import finding
from gradguard.lint.run import BackwardAt, StepAt
from gradguard.lint.story import Story

__all__ = ["check"]


def check(story: Story) -> Iterator[Finding]:
    """Compare when models were called with when they were stepped."""
    stepped: list[tuple[int, StepAt]] = []
    reported: set[tuple[str, str]] = set()
    for number, event in enumerate(story.run.events):
        if isinstance(event, StepAt):
            stepped.append((number, event))
        if not isinstance(event, BackwardAt):
            continue
        for unit, arrival in event.flow.items():
            # The weights are needed to get to what lies behind, not for their own gradient.
            if not arrival.behind or not arrival.sure or arrival.made is None or unit.opaque:
                continue
            if not any(below in event.flow for below in arrival.behind):
                continue
            for when, step in stepped:
                model = story.of_unit.get(unit)
                if when < arrival.born or unit not in step.optimizer.units or model is None:
                    continue
                name = story.losses[id(event)]
                if (name, model.name) in reported:
                    break
                reported.add((name, model.name))
                optimizer = story.name(step.optimizer)
                yield finding(
                    "GG205",
                    f"`{optimizer}` steps `{model.name}` between the forward pass of `{name}` and "
                    "its backward pass",
                    event.site,
                    [
                        (arrival.made, f"`{model.name}` is called for `{name}`"),
                        (step.site, f"`{optimizer}` changes its weights in place"),
                        (event.site, f"`{name}` needs the weights from before"),
                    ],
                    loss=name,
                    model=model.name,
                    help_text=f"step after every backward pass through `{model.name}`, or call it "
                    "again after the step",
                )
                break

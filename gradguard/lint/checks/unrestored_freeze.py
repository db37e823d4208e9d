"""GG402: a freeze inside the loop that nothing takes back before the model is stepped again."""

from __future__ import annotations

from collections.abc import Iterator

from gradguard.core.findings import Finding
from gradguard.lint.checks._common import finding
from gradguard.lint.run import BackwardAt, StepAt, Toggle
from gradguard.lint.story import Story, outward
from gradguard.lint.values import Unit

__all__ = ["check"]


def check(story: Story) -> Iterator[Finding]:
    """Look for models that a loss has trained, and cannot train again: they stay frozen."""
    if not any(one.frozen is True and not one.perhaps for one in story.run.toggled):
        return
    events = story.run.events
    reported: set[str] = set()
    for number, event in enumerate(events):
        if not isinstance(event, BackwardAt):
            continue
        loss = story.losses[id(event)]
        again = [
            (later, other)
            for later, other in enumerate(events)
            if later > number and isinstance(other, BackwardAt) and story.losses[id(other)] == loss
        ]
        if not again:
            continue
        last, other = again[-1]
        for unit, arrival in event.flow.items():
            model = story.of_unit.get(unit)
            if model is None or model.name in reported or not arrival.sure or unit.escaped:
                continue
            if any(unit in one.flow for _, one in again) or unit.frozen is not True:
                continue
            toggle = _frozen_for_good(story, unit, number, last)
            if toggle is None or not _stepped(story, unit, last):
                continue
            reported.add(model.name)
            where = outward(story, toggle.site, toggle.stack)
            yield finding(
                "GG402",
                f"`{model.name}` stays frozen after this, and `{loss}` trains it no more",
                where,
                [
                    (event.site, f"`{loss}` trains `{model.name}` the first time"),
                    (where, f"`{model.name}` is frozen, and never released"),
                    (other.site, f"`{loss}` reaches no parameter of `{model.name}` any more"),
                ],
                loss=loss,
                model=model.name,
                help_text=f"`{model.name}.requires_grad_(True)` after the loss that it is frozen "
                "for",
            )


def _frozen_for_good(story: Story, unit: Unit, first: int, last: int) -> Toggle | None:
    """Return the freeze between two events, if it is certain and nothing takes it back."""
    mine = [one for one in story.run.toggled if unit in one.units and first < one.when <= last]
    if not mine or any(one.frozen is not True or one.perhaps for one in mine):
        return None
    return mine[0]


def _stepped(story: Story, unit: Unit, after: int) -> bool:
    return any(
        isinstance(event, StepAt) and unit in event.optimizer.units
        for event in story.run.events[after:]
    )

"""GG204: what a loss that is after the gradient of an input leaves in the model."""

from __future__ import annotations

from collections.abc import Iterator

from gradguard.core.findings import Finding
from gradguard.lint.checks._common import finding
from gradguard.lint.run import BackwardAt, ClearAt, StepAt
from gradguard.lint.story import Story
from gradguard.lint.values import Unit

__all__ = ["check"]


def check(story: Story) -> Iterator[Finding]:
    """Look for steps that consume what a loss left on the way to a tensor's gradient."""
    read = {facts[0] for kind, _, facts in story.run.oddities if kind == "gradient read"}
    left: dict[Unit, BackwardAt] = {}
    meant: dict[Unit, BackwardAt] = {}
    reported: set[str] = set()
    for event in story.run.events:
        match event:
            case BackwardAt() if event.leaves & read:
                left.update(dict.fromkeys(event.flow, event))
            case BackwardAt():
                meant.update(dict.fromkeys(event.flow, event))
            case ClearAt():
                for unit in event.units:
                    left.pop(unit, None)
                    meant.pop(unit, None)
            case StepAt():
                for unit in event.optimizer.units:
                    first, second = left.get(unit), meant.get(unit)
                    model = story.of_unit.get(unit)
                    if first is None or second is None or model is None or not model.sure:
                        continue
                    if not first.flow[unit].sure or model.name in reported:
                        continue
                    reported.add(model.name)
                    yield _found(story, first, second, event, model.name)
            case _:
                continue


def _found(
    story: Story, first: BackwardAt, second: BackwardAt, step: StepAt, model: str
) -> Finding:
    loss, name = story.losses[id(first)], story.name(step.optimizer)
    return finding(
        "GG204",
        f"`{name}` steps `{model}` with gradient left over from `{loss}`",
        step.site,
        [
            (first.site, f"`{loss}` is after an input's gradient and leaves some in `{model}`"),
            (second.site, f"`{story.losses[id(second)]}` adds its own"),
            (step.site, f"`{name}` applies both to `{model}`"),
        ],
        loss=loss,
        model=model,
        help_text=f"`{name}.zero_grad()` before `{story.losses[id(second)]}` runs backward, or "
        "`torch.autograd.grad` for the input alone",
    )

"""GG302 and GG303: a loss that was computed from models and reaches none of them."""

from __future__ import annotations

from collections.abc import Iterator

from gradguard.core.findings import Finding
from gradguard.lint.checks._common import finding
from gradguard.lint.story import Story
from gradguard.lint.values import Hidden

__all__ = ["check"]


def check(story: Story) -> Iterator[Finding]:
    """Look for backward passes whose graph ends at once."""
    reported: set[str] = set()
    for event in story.backwards:
        loss, name = event.loss, story.losses[id(event)]
        if (
            any(not unit.tensor or unit.holders for unit in loss.flow)
            or loss.hidden != Hidden.NOTHING
            or loss.unknown
            or name in reported
        ):
            continue
        trainable = {
            unit: cut for unit, cut in loss.cuts.items() if unit.holders and unit.frozen is False
        }
        if not trainable:
            continue
        reported.add(name)
        kinds = {how for _, how in trainable.values()}
        unit, (site, how) = next(iter(trainable.items()))
        model = story.of_unit[unit].name if unit in story.of_unit else unit.name
        unrecorded = kinds == {"no_grad"}
        yield finding(
            "GG303" if unrecorded else "GG302",
            f"`{name}` is computed without recording gradients and trains nothing"
            if unrecorded
            else f"the graph of `{name}` ends before any model: nothing is trained",
            event.site,
            [
                (site, f"gradient to `{model}` ends here: {how}"),
                (event.site, f"`{name}` reaches no parameter"),
            ],
            loss=name,
            model=model,
            help_text="take the forward pass out of `no_grad`"
            if unrecorded
            else "stay in torch from the model to the loss",
        )

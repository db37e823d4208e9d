"""GG105: a score-function term weighted by a value that carries gradient."""

from __future__ import annotations

from collections.abc import Iterator

from gradguard.core.findings import Finding
from gradguard.lint.checks._common import finding, operations
from gradguard.lint.run import BackwardAt
from gradguard.lint.story import Story
from gradguard.lint.values import Data

__all__ = ["check"]


def check(story: Story) -> Iterator[Finding]:
    """Look for log-probabilities multiplied with what another model makes."""
    reported: set[str] = set()
    for event in story.backwards:
        name = story.losses[id(event)]
        if name in reported:
            continue
        for operation, inputs, product in operations(event.loss):
            if operation != "mult" or len(inputs) != 2:
                continue
            found = _live(story, event, inputs, product)
            if found is not None:
                reported.add(name)
                yield found
                break


def _live(
    story: Story, event: BackwardAt, inputs: tuple[object, ...], product: Data
) -> Finding | None:
    for score, weight in (inputs, inputs[::-1]):
        if not isinstance(score, Data) or not isinstance(weight, Data):
            continue
        if "logp" not in score.tags or "logp" in weight.tags or not score.flow:
            continue
        extra = [
            unit
            for unit, arrival in weight.flow.items()
            if unit not in score.flow and not unit.bare and arrival.sure and unit in event.flow
        ]
        models = [story.of_unit[unit] for unit in extra if unit in story.of_unit]
        if not models or not models[0].sure:
            continue
        model, name = models[0], story.losses[id(event)]
        term = next((n for n, one in event.terms if any(u in one.flow for u in score.flow)), name)
        return finding(
            "GG105",
            f"`{term}` weights log-probabilities by a value that carries gradient to "
            f"`{model.name}`",
            product.site,
            [
                (weight.flow[extra[0]].made, f"output of `{model.name}`, carries gradient"),
                (product.site, "weights the log-probabilities here"),
                (event.site, f"`{name}` trains `{model.name}` through the weight"),
            ],
            loss=name,
            model=model.name,
            help_text="`.detach()` the weight",
        )
    return None

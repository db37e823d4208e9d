"""GG301: a loss that is followed by the step of a model which it was computed from, and misses."""

from __future__ import annotations

from collections.abc import Iterator

from gradguard.core.findings import Finding
from gradguard.lint.carry import units_of
from gradguard.lint.checks._common import finding, windows
from gradguard.lint.run import BackwardAt, WriteAt
from gradguard.lint.story import Model, Story
from gradguard.lint.values import Hidden, Instance, Optimizer, Site, Unit

__all__ = ["check"]


def check(story: Story) -> Iterator[Finding]:
    """Look for models that are stepped and get nothing, though a loss was computed from them."""
    if not story.backwards:
        return
    written = {
        unit for event in story.run.events if isinstance(event, WriteAt) for unit in event.units
    }
    ever = {unit for event in story.backwards for unit in event.flow}
    reported: set[tuple[str, str]] = set()
    for event, optimizer in _unfed(story):
        for model in _of(story, optimizer):
            if _silent(model, written) or any(unit in event.flow for unit in model.units):
                continue
            found = _starved(story, event, model, optimizer, ever)
            if found is None or (found.loss or "", model.name) in reported:
                continue
            reported.add((found.loss or "", model.name))
            yield found
    for optimizer in story.optimizers:
        for model in _of(story, optimizer):
            if _silent(model, written) or any(unit in ever for unit in model.units):
                continue
            for event in story.backwards:
                if not any(unit in event.flow for unit in optimizer.units):
                    continue
                found = _starved(story, event, model, optimizer, ever)
                if found is not None and not any(name == model.name for _, name in reported):
                    reported.add((found.loss or "", model.name))
                    yield found
    yield from _left_out(story, ever)
    yield from _reversed(story)


def _of(story: Story, optimizer: Optimizer) -> list[Model]:
    return [model for model in story.models if optimizer in model.holders]


def _silent(model: Model, written: set[Unit]) -> bool:
    """Say whether nothing can be told: frozen, written by hand, or in other hands."""
    return any(
        unit.frozen is not False or unit in written or unit.escaped or unit.opaque
        for unit in model.units
    )


def _unfed(story: Story) -> Iterator[tuple[BackwardAt, Optimizer]]:
    """Walk steps before which no loss has reached anything that they step."""
    for window in windows(story):
        for step in window.steps:
            units = step.optimizer.units
            if not units or not step.optimizer.complete:
                continue
            fed = any(unit in event.flow for event in window.backwards for unit in units)
            if fed or any(unit in window.left for unit in units):
                continue
            if len(window.backwards) == 1:
                yield window.backwards[0], step.optimizer


def _unrecorded(
    name: str,
    event: BackwardAt,
    model: Model,
    optimizer: Optimizer,
    site: Site | None,
    ever: set[Unit],
) -> Finding | None:
    """Report a model that was handed to the optimizer by name and only runs under no_grad."""
    if not any(_idle(source, model, ever) for source in optimizer.sources):
        return None
    return finding(
        "GG303",
        f"`{model.name}` runs under `no_grad`, and `{name}` cannot train it",
        site,
        [
            (site, f"`{model.name}` is called without recording gradients"),
            (event.site, f"no parameter of `{model.name}` receives gradient"),
        ],
        loss=name,
        model=model.name,
        help_text=f"take the call of `{model.name}` out of `no_grad`",
    )


def _idle(source: Instance, model: Model, ever: set[Unit]) -> bool:
    """Say whether a model is all, or part, of what an optimizer was given and nothing reaches."""
    units = units_of(source)
    return any(unit in model.units for unit in units) and not any(unit in ever for unit in units)


def _left_out(story: Story, ever: set[Unit]) -> Iterator[Finding]:
    """Look for models that only backward passes go through which are told not to fill them."""
    reported: set[str] = set()
    for window in windows(story):
        stepped = {unit: step for step in window.steps for unit in step.optimizer.units}
        for event in window.backwards:
            if not event.restricted:
                continue
            for unit in event.missing:
                model = story.of_unit.get(unit)
                if unit not in stepped or unit in ever or unit.frozen is not False:
                    continue
                if model is None or model.name in reported or unit.escaped:
                    continue
                reported.add(model.name)
                name, step = story.losses[id(event)], stepped[unit]
                yield finding(
                    "GG301",
                    f"`{name}` goes through `{model.name}` and is told not to fill it, though "
                    f"`{story.name(step.optimizer)}` steps it",
                    event.site,
                    [
                        (event.site, f"`inputs` leaves `{model.name}` out"),
                        (step.site, f"`{model.name}` is stepped without gradient"),
                    ],
                    loss=name,
                    model=model.name,
                    help_text=f"list the parameters of `{model.name}` in `inputs`, too",
                )


def _reversed(story: Story) -> Iterator[Finding]:
    """Look for gradient reversals of what carries no gradient."""
    reported: set[str] = set()
    for kind, site, facts in story.run.oddities:
        if kind != "reverses nothing" or not isinstance(facts[0], dict):
            continue
        for unit, (where, how) in facts[0].items():
            model = story.of_unit.get(unit)
            if how != "detach" or model is None or not model.holders or model.name in reported:
                continue
            reported.add(model.name)
            yield finding(
                "GG301",
                f"the gradient to `{model.name}` is to be reversed, and it was cut off before",
                where or site,
                [
                    (where, f"gradient to `{model.name}` ends here: {how}"),
                    (site, "there is nothing left to turn around"),
                ],
                model=model.name,
                help_text=f"keep the graph from `{model.name}` to the reversal",
            )


def _starved(
    story: Story, event: BackwardAt, model: Model, optimizer: Optimizer, ever: set[Unit]
) -> Finding | None:
    if event.loss.hidden >= Hidden.SWALLOWED or event.restricted or not event.flow:
        return None
    cuts = [event.loss.cuts[unit] for unit in model.units if unit in event.loss.cuts]
    name = story.losses[id(event)]
    if cuts and all(how == "no_grad" for _, how in cuts):
        return _unrecorded(name, event, model, optimizer, cuts[0][0], ever)
    cuts = [(site, how) for site, how in cuts if how != "no_grad"]
    if not cuts:
        return None
    site, how = cuts[0]
    return finding(
        "GG301",
        f"`{name}` does not reach `{model.name}`, which `{story.name(optimizer)}` steps after it",
        event.site,
        [
            (site, f"gradient to `{model.name}` ends here: {how}"),
            (event.site, f"no parameter of `{model.name}` receives gradient"),
        ],
        loss=name,
        model=model.name,
        help_text=f"keep the graph from `{model.name}` to `{name}`",
    )

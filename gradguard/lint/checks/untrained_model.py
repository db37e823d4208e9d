"""GG203: what a loss trains and no optimizer holds, though one was given the whole model."""

from __future__ import annotations

from collections.abc import Iterator

from gradguard.core.findings import Finding
from gradguard.lint.carry import units_of
from gradguard.lint.checks._common import finding, known, root
from gradguard.lint.run import BackwardAt, StepAt, WriteAt
from gradguard.lint.story import Story
from gradguard.lint.values import Dict, Instance, Optimizer, Parameters, Seq, Unit, Value

__all__ = ["check"]


def check(story: Story) -> Iterator[Finding]:
    """Look for parts of a model that its optimizer has missed or lost."""
    if story.unpaired or not all(known(optimizer) for optimizer in story.optimizers):
        return
    reached: dict[Unit, BackwardAt] = {}
    for event in story.backwards:
        for unit, arrival in event.flow.items():
            if arrival.sure and unit.frozen is False and not unit.escaped:
                reached.setdefault(unit, event)
    reported: set[str] = set()
    yield from _replaced(story, reached, reported)
    yield from _emptied(story)
    for optimizer in story.optimizers:
        held = set(optimizer.units)
        for source in optimizer.sources:
            for unit in _parts(source, set()):
                if (
                    unit not in reached
                    or unit in held
                    or unit.holders
                    or unit.opaque
                    or unit.shadow
                ):
                    continue
                event = reached[unit]
                model = story.of_unit.get(unit)
                if model is None or model.name in reported:
                    continue
                reported.add(model.name)
                name = story.name(optimizer)
                yield finding(
                    "GG203",
                    f"`{model.name}` is trained by `{story.losses[id(event)]}` and held by no "
                    "optimizer",
                    optimizer.site or event.site,
                    [
                        (optimizer.site, f"`{name}` takes the parameters that there are now"),
                        (unit.made, f"`{model.name}` is made here"),
                        (event.site, f"`{story.losses[id(event)]}` reaches `{model.name}`"),
                    ],
                    loss=story.losses[id(event)],
                    model=model.name,
                    help_text=f"build `{name}` after `{model.name}`, and register it as a module",
                )
    yield from _stray(story, reached, reported)


def _emptied(story: Story) -> Iterator[Finding]:
    """Look for groups of optimizers over iterators that were used up before."""
    for kind, site, facts in story.run.oddities:
        if kind != "spent group":
            continue
        params, optimizer = facts
        if not isinstance(params, Parameters) or not isinstance(optimizer, Optimizer):
            continue
        models = [story.of_unit[unit].name for unit in params.units if unit in story.of_unit]
        if not models or optimizer not in story.optimizers:
            continue
        name = story.name(optimizer)
        yield finding(
            "GG203",
            f"the iterator over `{models[0]}`'s parameters is used up before `{name}` gets it",
            site,
            [(params.spent, "used up here"), (optimizer.site, f"`{name}` gets nothing")],
            model=models[0],
            help_text="make a list of the parameters first",
        )


def _stray(story: Story, reached: dict[Unit, BackwardAt], reported: set[str]) -> Iterator[Finding]:
    """Look for new models that a loss ends in and that no optimizer was ever given."""
    written = {
        unit for event in story.run.events if isinstance(event, WriteAt) for unit in event.units
    }
    written |= _put_aside(story)
    together = {root(unit) for unit in reached if unit.holders and not unit.bare}
    layered = {unit.path[0] for unit in reached if unit.path and not unit.bare}
    for unit, event in reached.items():
        model = story.of_unit.get(unit)
        arrival = event.flow[unit]
        if model is None or not model.sure or model.name in reported or unit in written:
            continue
        if unit.holders or unit.opaque or unit.shadow or unit.tensor or unit.made is None:
            continue
        # What the loss only passes through may be fixed on purpose, and merely not frozen.
        # Where other parts of the same model are trained, this one was forgotten.
        alone = root(unit) in together or (
            unit.bare and unit.path[:1] and unit.path[0] not in layered
        )
        if not alone and any(below is not unit and below.holders for below in arrival.behind):
            continue
        step = _step_after(story, event)
        if step is None:
            continue
        reported.add(model.name)
        name, loss = story.name(step.optimizer), story.losses[id(event)]
        yield finding(
            "GG203",
            f"`{loss}` ends in `{model.name}`, which no optimizer holds",
            event.site,
            [
                (unit.made, f"`{model.name}` is made here"),
                (step.optimizer.site, f"`{name}` does not take its parameters"),
                (event.site, f"`{loss}` puts gradient into `{model.name}`"),
                (step.site, f"nothing steps `{model.name}`"),
            ],
            loss=loss,
            model=model.name,
            help_text=f"give the parameters of `{model.name}` to an optimizer, or freeze them",
        )


def _put_aside(story: Story) -> set[Unit]:
    """Return the units of models that were set to ``eval`` and nobody trains: fixed on purpose."""
    found: set[Unit] = set()
    for kind, _, facts in story.run.oddities:
        if kind == "eval" and isinstance(facts[0], Instance):
            units = units_of(facts[0])
            if not any(unit.holders for unit in units):
                found.update(units)
    return found


def _step_after(story: Story, event: BackwardAt) -> StepAt | None:
    """Return the step of an optimizer that follows a backward pass, and is fed by it if another."""
    events = story.run.events
    between = False
    for later in events[events.index(event) + 1 :]:
        between |= isinstance(later, BackwardAt)
        if isinstance(later, StepAt):
            if not between or any(u in event.flow for u in later.optimizer.units):
                return later
    return None


def _replaced(
    story: Story, reached: dict[Unit, BackwardAt], reported: set[str]
) -> Iterator[Finding]:
    """Look for models that took the place of one that an optimizer still holds."""
    for optimizer in story.optimizers:
        for old in optimizer.units:
            if old in reached or not old.path or old.opaque or old in optimizer.partly:
                continue
            for unit, event in reached.items():
                if unit.path != old.path or unit.holders or unit.shadow or unit.opaque:
                    continue
                model = story.of_unit.get(unit)
                if model is None or model.name in reported:
                    continue
                reported.add(model.name)
                name, loss = story.name(optimizer), story.losses[id(event)]
                yield finding(
                    "GG203",
                    f"`{model.name}` is trained by `{loss}`, and `{name}` holds the one before it",
                    unit.made or event.site,
                    [
                        (optimizer.site, f"`{name}` takes the parameters that there are now"),
                        (unit.made, f"`{model.name}` is replaced here"),
                        (event.site, f"`{loss}` reaches the new one"),
                    ],
                    loss=loss,
                    model=model.name,
                    help_text=f"build `{name}` after `{model.name}`",
                )


def _parts(value: Value, seen: set[int]) -> Iterator[Unit]:
    """Walk the parameters that a module uses, those it does not count among its own included."""
    if id(value) in seen:
        return
    seen.add(id(value))
    match value:
        case Instance():
            if not value.module:
                return
            if value.unit is not None:
                yield value.unit
            inner = [*value.attrs.values()]
            inner += [part for part in (value.items, value.wrapped) if part is not None]
            for part in inner:
                yield from _parts(part, seen)
        case Seq():
            for part in value.items:
                yield from _parts(part, seen)
        case Dict():
            for part in value.items.values():
                yield from _parts(part, seen)
        case Parameters() if value.one and value.units and value.units[0].bare and not value.values:
            yield value.units[0]
        case _:
            return

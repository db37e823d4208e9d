"""GG203: what a loss trains and no optimizer holds, though one was given the whole model."""

from __future__ import annotations

from collections.abc import Iterator

from gradguard.core.findings import Finding
from gradguard.lint.checks._common import finding, known
from gradguard.lint.run import BackwardAt
from gradguard.lint.story import Story
from gradguard.lint.values import Dict, Instance, Parameters, Seq, Unit, Value

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

"""GG104: a model that is averaged from another and trained by an optimizer as well."""

from __future__ import annotations

from collections.abc import Iterator

from gradguard.core.findings import Finding
from gradguard.lint.checks._common import finding
from gradguard.lint.namesakes import targets
from gradguard.lint.run import BackwardAt, StepAt, WriteAt
from gradguard.lint.story import Story
from gradguard.lint.values import Site, Unit

__all__ = ["check"]


def check(story: Story) -> Iterator[Finding]:
    """Look for parameters that losses reach, an optimizer steps, and training overwrites."""
    written: dict[Unit, Site] = {}
    started = False
    for event in story.run.events:
        if isinstance(event, StepAt):
            started = True
        elif isinstance(event, WriteAt) and started and event.sources:
            for unit in event.units:
                written.setdefault(unit, event.site)
    reported: set[str] = set()
    for event in story.backwards:
        for unit, arrival in event.flow.items():
            if unit not in written or unit.origin is None or not arrival.sure:
                continue
            model = story.of_unit.get(unit)
            if model is None or not model.holders or model.name in reported:
                continue
            if not _stepped(story, unit) or unit.origin not in event.flow:
                continue
            reported.add(model.name)
            yield _found(story, event, model.name, written[unit])
    yield from _targets(story, reported)
    yield from _swapped(story)


def _targets(story: Story, reported: set[str]) -> Iterator[Finding]:
    """Look for copies that are called targets and trained along with what they are copied from."""
    for event in story.backwards:
        for unit, arrival in event.flow.items():
            origin, model = unit.origin, story.of_unit.get(unit)
            if origin is None or origin not in event.flow or not arrival.sure or model is None:
                continue
            if model.name in reported or not _alongside(unit, origin):
                continue
            if not _stepped(story, unit) or not targets(unit.path, origin.path):
                continue
            reported.add(model.name)
            name = story.losses[id(event)]
            yield finding(
                "GG104",
                f"`{name}` trains `{model.name}`, the target that is copied from "
                f"`{story.of_unit[origin].name}`",
                event.site,
                [
                    (arrival.made, f"output of `{model.name}`, carries gradient"),
                    (event.site, f"`{name}` reaches both"),
                ],
                loss=name,
                model=model.name,
                help_text=f"call `{model.name}` under `torch.no_grad()`",
            )


def _alongside(unit: Unit, origin: Unit) -> bool:
    """Say whether one optimizer holds a copy only because it holds all that the original is in."""
    return bool(unit.holders) and all(optimizer in origin.holders for optimizer in unit.holders)


def _swapped(story: Story) -> Iterator[Finding]:
    """Look for trained models that are averaged towards one that nothing ever changes."""
    started = False
    moved: set[Unit] = {unit for optimizer in story.optimizers for unit in optimizer.units}
    written: dict[Unit, tuple[Site, frozenset[Unit]]] = {}
    for event in story.run.events:
        started |= isinstance(event, StepAt)
        if isinstance(event, WriteAt) and started:
            moved.update(event.units)
            if event.mixed and event.sources:
                for unit in event.units:
                    written.setdefault(unit, (event.site, event.sources))
    reported: set[str] = set()
    for event in story.backwards:
        for unit, arrival in event.flow.items():
            if unit not in written or not arrival.sure or not _stepped(story, unit):
                continue
            site, sources = written[unit]
            model = story.of_unit.get(unit)
            if model is None or model.name in reported:
                continue
            if any(one in moved or one.opaque or one.escaped for one in sources):
                continue
            reported.add(model.name)
            yield _averaged_back(story, event, model.name, next(iter(sources)).name, site)


def _averaged_back(
    story: Story, event: BackwardAt, model: str, source: str, where: Site
) -> Finding:
    name = story.losses[id(event)]
    return finding(
        "GG104",
        f"`{name}` trains `{model}`, which is averaged back towards `{source}`, which nothing "
        "changes",
        event.site,
        [
            (event.site, f"`{name}` trains `{model}`"),
            (where, f"`{model}` is averaged towards `{source}`"),
        ],
        loss=name,
        model=model,
        help_text=f"average `{source}` towards `{model}`: are the two exchanged?",
    )


def _stepped(story: Story, unit: Unit) -> bool:
    return any(unit in step.optimizer.units for step in story.steps)


def _found(story: Story, event: BackwardAt, model: str, where: Site) -> Finding:
    name = story.losses[id(event)]
    return finding(
        "GG104",
        f"`{name}` trains `{model}`, which is averaged from another model",
        event.site,
        [(event.site, f"`{name}` reaches `{model}`"), (where, f"`{model}` is overwritten here")],
        loss=name,
        model=model,
        help_text=f"call `{model}` under `torch.no_grad()` and leave it out of the optimizer",
    )

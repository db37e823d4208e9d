"""GG401: a freeze that does not take."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator

from gradguard.core.findings import Finding
from gradguard.lint.checks._common import finding
from gradguard.lint.run import BackwardAt, ClearAt, StepAt
from gradguard.lint.story import Story
from gradguard.lint.syntax import walk
from gradguard.lint.values import Instance, Parameters, Site, Unit

__all__ = ["check"]


def check(story: Story) -> Iterator[Finding]:
    """Look at attributes that look like ``requires_grad``, and at loops that freeze nothing."""
    for kind, site, facts in story.run.oddities:
        match kind:
            case "attribute of parameter":
                holder, name, _ = facts
                if not _looks_like(str(name)) or not isinstance(holder, Parameters):
                    continue
                model = _name(story, holder)
                yield finding(
                    "GG401",
                    f"`{name}` is no attribute of a parameter: `{model}` stays trainable",
                    site,
                    model=model,
                    help_text="the attribute is called `requires_grad`",
                )
            case "freeze attribute":
                holder, name = facts
                if (isinstance(holder, Instance) and holder.cls is None) or _module(holder):
                    model = ".".join(getattr(holder, "path", ())) or "the module"
                    yield finding(
                        "GG401",
                        f"`requires_grad` of a module does nothing: `{model}` stays trainable",
                        site,
                        model=model,
                        help_text="`requires_grad_(False)` freezes the parameters of a module",
                    )
            case "spent iterator":
                holder, node = facts
                if isinstance(holder, Parameters) and _freezes(node):
                    model = _name(story, holder)
                    yield finding(
                        "GG401",
                        f"the iterator over `{model}`'s parameters is used up: "
                        "nothing is frozen here",
                        site,
                        [(holder.spent, "used up here"), (site, "goes through nothing")],
                        model=model,
                        help_text="make a list of the parameters first",
                    )
            case "freeze overwritten":
                (unit,) = facts
                yield from _overwritten(story, unit, site)
            case _:
                continue
    yield from _moved(story)


def _moved(story: Story) -> Iterator[Finding]:
    """Look for steps of models that a block holds fixed, with gradient from before it."""
    lying: dict[Unit, BackwardAt] = {}
    reported: set[str] = set()
    for event in story.run.events:
        match event:
            case BackwardAt():
                lying.update(dict.fromkeys(event.flow, event))
            case ClearAt():
                for unit in event.units:
                    lying.pop(unit, None)
            case StepAt(fixed=fixed):
                for unit in fixed:
                    model = story.of_unit.get(unit)
                    if unit not in lying or model is None or model.name in reported:
                        continue
                    reported.add(model.name)
                    loss, name = story.losses[id(lying[unit])], story.name(event.optimizer)
                    yield finding(
                        "GG401",
                        f"`{name}` steps `{model.name}`, which is to be held fixed, with gradient "
                        f"of `{loss}`",
                        event.site,
                        [
                            (lying[unit].site, f"`{loss}` puts gradient into `{model.name}`"),
                            (event.site, f"`{name}` applies it while `{model.name}` is frozen"),
                        ],
                        loss=loss,
                        model=model.name,
                        help_text=f"`{name}.zero_grad()` first, or leave `{model.name}` out of it",
                    )
            case _:
                continue


def _overwritten(story: Story, unit: object, site: Site) -> Iterator[Finding]:
    """Report a frozen layer that was given new parameters, and is trained."""
    event = next((one for one in story.backwards if unit in one.flow), None)
    if not isinstance(unit, Unit) or event is None or unit not in story.of_unit:
        return
    if not any(unit in step.optimizer.units for step in story.steps):
        return
    frozen = next((one for one in story.run.toggled if unit in one.units and one.frozen), None)
    model, loss = story.of_unit[unit].name, story.losses[id(event)]
    yield finding(
        "GG401",
        f"`{model}` is frozen here and given new parameters afterwards: `{loss}` trains it",
        frozen.site if frozen is not None else site,
        [
            (site, f"parameters of `{model}` are replaced: new ones require gradient"),
            (event.site, f"`{loss}` reaches `{model}`"),
        ],
        loss=loss,
        model=model,
        help_text="freeze after the initialisation",
    )


def _module(holder: object) -> bool:
    return isinstance(holder, Instance) and holder.module


def _looks_like(name: str) -> bool:
    if name == "requires_grad":
        return False
    return bool(difflib.get_close_matches(name.lower(), ["requires_grad"], n=1, cutoff=0.8))


def _name(story: Story, holder: Parameters) -> str:
    for unit in holder.units:
        if unit in story.of_unit:
            return story.of_unit[unit].name
    return holder.units[0].name if holder.units else "the model"


def _freezes(node: object) -> bool:
    if not isinstance(node, ast.For):
        return False
    return any(
        isinstance(inner, ast.Attribute)
        and (
            inner.attr == "requires_grad_"
            or (inner.attr == "requires_grad" and isinstance(inner.ctx, ast.Store))
        )
        for statement in node.body
        for inner in walk(statement)
    )

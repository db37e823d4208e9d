"""Values that nobody saw being made: what their uses make of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Hashable, Iterable

from gradguard.lint.carry import units_of
from gradguard.lint.namesakes import namesake
from gradguard.lint.run import Frame, Run
from gradguard.lint.values import Const, Data, Hidden, Instance, Optimizer, Site, Value

__all__ = ["handed_on", "inside", "taken_for", "unknown", "unknown_item", "unknown_part"]


def unknown(
    run: Run, key: Hashable, path: tuple[str, ...], site: Site | None, hint: Const | None = None
) -> Value:
    """Return what a value that was passed in, or never seen being made, is taken for.

    Args:
        run: The execution.
        key: What makes it the same value wherever it is met.
        path: How the program gets at it.
        site: Where it was met.
        hint: The default of the parameter that it is.
    """
    known = run.unknowns.get(key)
    if known is not None:
        return known
    made: Value
    match taken_for(run, key, path):
        case "model":
            instance = Instance(key, lib="opaque")
            instance.module, instance.open, instance.path = True, True, path
            instance.unit = run.unit(key, path)
            instance.unit.opaque = True
            instance.unit.owner = instance
            made = instance
            run.evidence.models.add(path or run.evidence.names.get(key, ()))
        case "optimizer":
            optimizer = Optimizer(key, (), None)
            optimizer.complete, optimizer.path = False, path
            run.optimizers.append(optimizer)
            made = optimizer
        case _:
            data = Data(key, {}, Hidden.ARGUMENT, site)
            data.unknown, data.path, data.hint = True, path, hint
            made = data
    run.unknowns[key] = made
    return made


_CALLED_USES = frozenset(["zero_grad", "eval", "train", "state_dict", "load_state_dict", "copied"])
_WORDS = re.compile(
    r"(?:^|_)(?:model|nets?|network|policy|actor|critic|generator|discriminator|encoder|decoder|"
    r"teacher|student|q_?(?:func|function|net|network)?\d?|vf?|qf\d?|net_?[dg])(?:_|$)"
)
_MODEL_USES = frozenset({"parameters", "named_parameters", "named_modules", "children", "buffers"})
_OPTIMIZER_WORDS = ("optim", "opt")
_OWN_OPTIMIZER = frozenset({"optimizer", "optim", "opt", "_optimizer"})
"""What an object calls the one optimizer of its own parameters."""


def taken_for(run: Run, key: Hashable, path: tuple[str, ...]) -> str:
    """Say what the uses of an unknown value make of it: ``model``, ``optimizer`` or nothing."""
    uses = run.evidence.uses.get(key)
    if not uses:
        return ""
    path = path or run.evidence.names.get(key, ())
    if namesake(path) in run.evidence.models:
        return "model"
    if "model" in uses or "owns optimizer" in uses or uses & _MODEL_USES:
        return "model"
    if "optimizer" in uses:
        return "optimizer"
    named = path[-1].lower() if path else ""
    if "zero_grad" in uses and ("step" in uses or any(w in named for w in _OPTIMIZER_WORDS)):
        return "optimizer"
    if "step" in uses and any(word in named for word in _OPTIMIZER_WORDS):
        return "optimizer"
    if "called" in uses and uses & _CALLED_USES:
        return "model"
    if "called" in uses and path and _WORDS.search(path[-1].lower()):
        return "model"
    if "zero_grad" in uses and "param_groups" not in uses:
        return "model"
    return ""


def unknown_item(run: Run, value: Data, index: Value, frame: Frame, node: ast.AST) -> Value:
    """Return an item of an unknown value."""
    part = f"[{index.value!r}]" if isinstance(index, Const) else "[i]"
    key = run.key("item", value.key, index.key if isinstance(index, Const) else "i")
    return inside(run, value, key, part, frame, node)


def inside(run: Run, value: Data, key: Hashable, part: str, frame: Frame, node: ast.AST) -> Value:
    """Return a part of an unknown value; it carries what the whole carries."""
    if value.operands is not None and value.operands[0] == "opaque":
        given = handed_on(run, key, value.operands[1])
        if given is not None:
            return given
    made = unknown(run, key, (*value.path, part) if value.path else (part,), frame.site(node))
    if isinstance(made, Optimizer) and part in _OWN_OPTIMIZER:
        run.witness(value.key, "owns optimizer")
    if isinstance(made, Data) and (value.flow or value.cuts or not value.unknown):
        seen = Data(made.key, value.flow, value.hidden, frame.site(node))
        seen.unknown, seen.path, seen.cuts = value.unknown, made.path, value.cuts
        return seen
    return made


def handed_on(run: Run, key: Hashable, given: Iterable[Value]) -> Value | None:
    """Return what an unknown call has made of models and optimizers, where its use tells that.

    What is used as an optimizer, and was made of one model, is that model's; given together with
    an optimizer, as ``model, optimizer = initialize(model, optimizer)``, each comes back.
    """
    known = run.unknowns.get(key)
    if isinstance(known, Optimizer):
        return known
    found = list(given)
    models = [one for one in found if isinstance(one, Instance) and one.module]
    optimizers = [one for one in found if isinstance(one, Optimizer)]
    if len(models) != 1 or len(optimizers) > 1:
        return None
    kind = taken_for(run, key, ())
    if kind == "model":
        return models[0] if optimizers else None
    if kind != "optimizer":
        return None
    if optimizers:
        return optimizers[0]
    made = Optimizer(key, units_of(models[0]), None)
    made.complete, made.escaped = False, True
    for unit in made.units:
        unit.holders.append(made)
    run.optimizers.append(made)
    run.unknowns[key] = made
    return made


def unknown_part(run: Run, value: Value, part: str, frame: Frame, node: ast.AST) -> Value:
    """Return an attribute of which nobody saw what it is."""
    path = getattr(value, "path", ()) or ("self",)
    site = frame.site(node)
    return unknown(run, run.key("part", value.key, part), (*path, part), site)

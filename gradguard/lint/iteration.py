"""What a loop over a value goes through."""

from __future__ import annotations

import ast

from gradguard.lint import attributes, unknowns
from gradguard.lint.carry import carried, derive
from gradguard.lint.run import Frame, Run
from gradguard.lint.values import (
    Bound,
    Const,
    Data,
    Dict,
    Function,
    Instance,
    Library,
    Optimizer,
    Parameters,
    Seq,
    Value,
)

__all__ = ["elements"]

_MOST = 8
_MOST_OBJECTS = 48


def elements(
    run: Run, value: Value, frame: Frame, node: ast.AST
) -> tuple[list[Value], Value | None]:
    """Return what iterating gives: the known items, and what any further ones look like."""
    match value:
        case Seq():
            most = _MOST if any(isinstance(i, Data | Const) for i in value.items) else _MOST_OBJECTS
            if len(value.items) > most and value.closed:
                return value.items[:most], None
            return list(value.items), value.rest
        case Dict():
            keys: list[Value] = [Const(key) for key in value.items]
            return keys, run.data(frame.site(node)) if value.rest is not None else None
        case Parameters() if not value.one:
            return _each(run, value, frame, node), None
        case Parameters():
            return [], value
        case Instance() if value.items is not None:
            if isinstance(value.items, Dict):
                return [Const(key) for key in value.items.items], (
                    run.data(frame.site(node)) if value.items.rest is not None else None
                )
            return elements(run, value.items, frame, node)
        case Instance() if value.module and value.unit is not None:
            return [], attributes.child(run, value, "[i]")
        case Instance() if value.cls is not None:
            return _custom(run, value, frame, node)
        case Const() if isinstance(value.value, str | bytes):
            return [], run.data(frame.site(node))
        case Data() if value.unknown:
            return [], unknowns.unknown_item(run, value, run.data(None), frame, node)
        case Data():
            inner = derive(run, "index", [value], frame.site(node))
            inner.key = run.key("item", value.key, "i")
            return [], inner
        case Optimizer() | Function() | Library() | Bound():
            return [], run.data(frame.site(node))
        case _:
            have = carried(value)
            return [], run.data(frame.site(node), have.flow, have.hidden)


def _each(run: Run, value: Parameters, frame: Frame, node: ast.AST) -> list[Value]:
    site = frame.site(node)
    if value.once:
        if value.spent is not None and value.spent != site:
            return []
        value.spent = site
    if not value.units and value.complete:
        return []
    # One element stands for all, so that a loop over parameters does to each what it does to one.
    one = value.like(one=True, named=False)
    if not value.named:
        return [one]
    name = run.data(site, key=run.key("name of", value.key))
    return [Seq(run.fresh(), [name, one], "tuple")]


def _custom(
    run: Run, value: Instance, frame: Frame, node: ast.AST
) -> tuple[list[Value], Value | None]:
    from gradguard.lint import calls

    method = value.cls.find("__iter__") if value.cls is not None else None
    if isinstance(method, Function):
        found = calls.call(run, method.bind(value), [], {}, frame, node)
        if found is not value:
            return elements(run, found, frame, node)
        following = value.cls.find("__next__") if value.cls is not None else None
        if isinstance(following, Function):
            return [], calls.call(run, following.bind(value), [], {}, frame, node)
    method = value.cls.find("__getitem__") if value.cls is not None else None
    if isinstance(method, Function):
        index = run.data(frame.site(node))
        return [], calls.call(run, method.bind(value), [index], {}, frame, node)
    return [], run.data(frame.site(node))

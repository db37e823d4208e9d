"""What values carry, and what operations on them carry on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from gradguard.lint.run import Run
from gradguard.lint.values import (
    Arrival,
    Const,
    Data,
    Dict,
    Flow,
    Hidden,
    Instance,
    Optimizer,
    Parameters,
    Partial,
    Seq,
    Site,
    Unit,
    Value,
    merged,
)

__all__ = ["Carried", "carried", "cut", "derive", "gather", "layer", "units_of"]

_DEPTH = 4
_MOST_TERMS = 24


class Carried(NamedTuple):
    """What a value carries: gradient, what may be out of sight, and what was cut off."""

    flow: Flow
    hidden: int
    cuts: Mapping[Unit, tuple[Site | None, str]]


_NOTHING = Carried({}, Hidden.NOTHING, {})


def carried(value: Value, depth: int = _DEPTH) -> Carried:
    """Return what a value carries, looking into containers and plain objects."""
    match value:
        case Data():
            return Carried(value.flow, value.hidden, value.cuts)
        case Parameters():
            return Carried(_of_parameters(value), Hidden.NOTHING, {})
        case Seq() if depth:
            inner = [*value.items, *([value.rest] if value.rest is not None else [])]
            return gather(inner, depth - 1)
        case Dict() if depth:
            inner = [*value.items.values(), *([value.rest] if value.rest is not None else [])]
            return gather(inner, depth - 1)
        case Instance() if depth and not value.module:
            parts = [*value.attrs.values(), *([value.items] if value.items is not None else [])]
            return gather(parts, depth - 2 if depth > 1 else 0)
        case Partial() if depth:
            return gather([*value.args, *value.kwargs.values()], depth - 1)
        case _:
            return _NOTHING


def gather(values: Iterable[Value], depth: int = _DEPTH) -> Carried:
    """Return what several values carry together."""
    parts = [carried(value, depth) for value in values]
    parts = [part for part in parts if part is not _NOTHING]
    if not parts:
        return _NOTHING
    if len(parts) == 1:
        return parts[0]
    cuts: dict[Unit, tuple[Site | None, str]] = {}
    for part in parts:
        cuts.update(part.cuts)
    return Carried(merged(p.flow for p in parts), max(p.hidden for p in parts), cuts)


def _of_parameters(value: Parameters) -> Flow:
    if value.values or value.grads:
        return {}
    return {
        unit: Arrival(frozenset(), None, None, unit.frozen is False)
        for unit in value.units
        if unit.frozen is not True
    }


_ADDITIVE = {"add", "sub"}
_SAME_TERMS = {"neg", "mean", "sum", "index", "reshape", "scale", "nanmean", "nansum"}
_KEEPS_TAGS = _SAME_TERMS | {"clamp", "add", "sub"}


def derive(run: Run, operation: str, inputs: Sequence[Value], site: Site | None) -> Data:
    """Make the tensor that an operation computes from ``inputs``."""
    have = gather(inputs)
    made = run.data(site, have.flow, have.hidden)
    made.cuts = have.cuts if run.grad else _all_cut(have, site)
    data = [value for value in inputs if isinstance(value, Data)]
    if operation in _ADDITIVE:
        terms = tuple(term for value in data for term in _terms(value))
        made.terms = terms if len(terms) <= _MOST_TERMS else ()
    elif operation in _SAME_TERMS and data:
        made.terms = _terms(data[0]) if data[0].terms else ()
    elif operation in ("mult", "div"):
        live = [value for value in data if value.flow]
        others = [value for value in inputs if value not in live]
        if len(live) == 1 and not any(isinstance(o, Parameters) for o in others):
            made.terms = live[0].terms
            made.name = live[0].name
    if operation in _KEEPS_TAGS or len(data) == 1:
        made.tags = frozenset(tag for value in data for tag in value.tags)
    if operation in _SAME_TERMS and data and not made.terms:
        made.name = ""
    made.operands = (operation, tuple(inputs))
    return made


def _terms(value: Data) -> tuple[Data, ...]:
    if value.terms and not value.name:
        return value.terms
    return (value,) if value.flow or value.cuts else ()


def _all_cut(have: Carried, site: Site | None) -> Mapping[Unit, tuple[Site | None, str]]:
    if not have.flow:
        return have.cuts
    return {**have.cuts, **dict.fromkeys(have.flow, (site, "no_grad"))}


def cut(run: Run, value: Value, site: Site, how: str) -> Data:
    """Make the tensor that is ``value`` without its gradient."""
    have = carried(value)
    made = run.data(site)
    made.cuts = {**have.cuts, **dict.fromkeys(have.flow, (site, how))}
    made.tags = value.tags if isinstance(value, Data) else frozenset()
    made.operands = ("cut", (value,))
    return made


def layer(
    run: Run, units: Iterable[Unit], inputs: Sequence[Value], site: Site, *, sure: bool = True
) -> Data:
    """Make the output of a model that computes with ``units``."""
    have = gather(inputs)
    run.layers += 1
    if not run.grad:
        made = run.data(site)
        made.cuts = {**_all_cut(have, site), **dict.fromkeys(units, (site, "no_grad"))}
        return made
    behind = frozenset(have.flow)
    flow = {unit: entered(arrival, site) for unit, arrival in have.flow.items()}
    for unit in units:
        if unit.frozen is True:
            continue
        known = flow.get(unit)
        below = behind | known.behind if known else behind
        flow[unit] = Arrival(below, site, None, sure and unit.frozen is False, len(run.events))
    made = run.data(site, flow, have.hidden)
    made.cuts = have.cuts
    made.operands = ("layer", tuple(inputs))
    return made


def entered(arrival: Arrival, site: Site) -> Arrival:
    """Note where what arrives enters the next model."""
    return arrival if arrival.enters is not None else arrival._replace(enters=site)


def units_of(value: Value, seen: set[int] | None = None) -> list[Unit]:
    """Return all parameters that a model, or anything that holds models, has."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return []
    seen.add(id(value))
    match value:
        case Parameters():
            return list(value.units)
        case Instance():
            own = [value.unit] if value.unit is not None else []
            inner: list[Value] = [*value.attrs.values()]
            if value.items is not None:
                inner.append(value.items)
            if value.wrapped is not None:
                inner.append(value.wrapped)
            return own + [
                unit for part in inner if _registered(part, value) for unit in units_of(part, seen)
            ]
        case Seq():
            rest = [value.rest] if value.rest is not None else []
            return [unit for part in [*value.items, *rest] for unit in units_of(part, seen)]
        case Dict():
            rest = [value.rest] if value.rest is not None else []
            return [
                unit for part in [*value.items.values(), *rest] for unit in units_of(part, seen)
            ]
        case _:
            return []


def _registered(part: Value, holder: Instance) -> bool:
    """Say whether a module counts what one of its attributes holds among its parameters."""
    if part is holder.items or part is holder.wrapped:
        return True
    if isinstance(part, Instance):
        return part.module
    if isinstance(part, Parameters):
        return part.one and part.units and part.units[0].bare and not part.values  # type: ignore[return-value]
    return not holder.module and isinstance(part, Seq | Dict)


def is_constant(value: Value) -> bool:
    """Say whether a value is a constant or an optimizer: nothing that carries gradient."""
    return isinstance(value, Const | Optimizer)

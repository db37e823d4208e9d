"""What executing source does to gradients: the events it records."""

from __future__ import annotations

import ast
from collections.abc import Hashable, Iterable, Sequence

from gradguard.lint.carry import carried, units_of
from gradguard.lint.iteration import elements
from gradguard.lint.run import BackwardAt, ClearAt, Frame, Run, StepAt, WriteAt
from gradguard.lint.unknowns import handed_on
from gradguard.lint.values import (
    NONE,
    Arrival,
    Const,
    Data,
    Dict,
    Flow,
    Instance,
    Library,
    Optimizer,
    Parameters,
    Seq,
    Site,
    Unit,
    Value,
    merged,
)

__all__ = [
    "backward",
    "build_optimizer",
    "clear",
    "freeze",
    "optimizer_by_shape",
    "regroup",
    "require_gradient",
    "set_on_parameters",
    "step",
    "write",
]


def backward(
    run: Run,
    losses: Sequence[Value],
    frame: Frame,
    node: ast.AST,
    *,
    into: Value | None = None,
    text: str = "",
    site: Site | None = None,
) -> Value:
    """Record that losses run backward, at ``site`` if that is not where the call stands."""
    site = site or frame.site(node)
    run.visited.add(id(node))
    data = [loss for loss in losses if isinstance(loss, Data)]
    if not data:
        flows = [carried(loss) for loss in losses]
        loss = run.data(site, merged(have.flow for have in flows))
        data = [loss]
    loss = data[0] if len(data) == 1 else _sum(run, data, site)
    flow = {unit: arrival for unit, arrival in loss.flow.items() if unit.frozen is not True}
    if not any(arrival.sure for arrival in flow.values()):
        # A loss that runs backward has a graph: what alone can have carried it has carried it.
        flow = {unit: a._replace(sure=a.likely) for unit, a in flow.items()}
    restricted = into is not None and not (isinstance(into, Const) and into.value is None)
    if restricted and into is not None:
        units = set(units_of(into))
        flow = {unit: arrival for unit, arrival in flow.items() if unit in units}
    missing = frozenset(unit for unit in loss.flow if unit not in flow)
    terms = tuple((term.name, term) for term in loss.terms if term.name)
    name = loss.name
    if not name and len(loss.terms) == 1:
        name = loss.terms[0].name
    run.events.append(
        BackwardAt(
            loss,
            name or text or "loss",
            flow,
            site,
            tuple(run.stack),
            terms if len(loss.terms) > 1 else (),
            missing,
            restricted,
            run.contracts[-1] if run.contracts else None,
            tuple(turn for turn in run.loops if turn >= 0),
        )
    )
    return NONE


def _sum(run: Run, losses: Sequence[Data], site: Site) -> Data:
    from gradguard.lint.carry import derive

    return derive(run, "add", losses, site)


def step(run: Run, optimizer: Optimizer, frame: Frame, node: ast.AST) -> None:
    """Record that an optimizer steps."""
    run.visited.add(id(node))
    fixed = frozenset(u for units in run.fixed for u in units if u in optimizer.units)
    run.events.append(StepAt(optimizer, frame.site(node), tuple(run.stack), fixed))


def clear(
    run: Run,
    units: Iterable[Unit],
    frame: Frame,
    node: ast.AST,
    optimizer: Optimizer | None = None,
    *,
    complete: bool = True,
) -> None:
    """Record that gradients are removed."""
    run.visited.add(id(node))
    run.events.append(ClearAt(tuple(units), frame.site(node), optimizer, complete))


def write(
    run: Run, target: Value, sources: Sequence[Value], site: Site, *, mixed: bool = False
) -> None:
    """Record that parameters are written to by hand."""
    if not isinstance(target, Parameters):
        return
    if target.grads:
        return
    origin: set[Unit] = set()
    for source in sources:
        origin.update(_sources(source))
    mixed |= bool(origin & set(target.units))
    origin -= set(target.units)
    for unit in target.units:
        if origin:
            unit.shadow = True
            if unit.origin is None:
                unit.origin = next(iter(origin))
    run.events.append(WriteAt(target.units, site, frozenset(origin), mixed))


_DEEP = 6


def _sources(value: Value, depth: int = _DEEP) -> set[Unit]:
    """Return the parameters that a value is computed from; what models made of them is no copy."""
    match value:
        case Parameters():
            return set(value.units)
        case Data(operands=(operation, inputs)) if depth and operation != "layer":
            return {unit for inner in inputs for unit in _sources(inner, depth - 1)}
        case _:
            return set()


def freeze(run: Run, units: Iterable[Unit], flag: Value, site: Site, *, part: bool = False) -> None:
    """Set ``requires_grad`` of parameters."""
    state: bool | None = None
    if isinstance(flag, Const) and not part:
        state = not flag.value
    run.toggle(units, state, site)


def require_gradient(run: Run, holder: Data, value: Value, site: Site) -> None:
    """Set ``requires_grad`` of a tensor or of something unknown."""
    wants = not (isinstance(value, Const) and not value.value)
    if holder.unknown:
        run.witness(holder.key, "requires_grad")
    if wants and not holder.flow and not (holder.unknown and not holder.cuts):
        if holder.cuts:
            run.note("leaf again", site, holder)
        unit = leaf(run, site)
        unit.path = tuple(holder.name.split(".")) if holder.name else ()
        holder.flow = {unit: Arrival(frozenset(), None, None, sure=True)}
    holder.tags |= {"leaf"}


def leaf(run: Run, site: Site) -> Unit:
    """Make the parameters that a tensor becomes when it is told to require gradient."""
    unit = run.unit(run.key("leaf", site, len(run.stack), len(run.units)), (), bare=True)
    unit.made, unit.tensor = site, True
    return unit


def set_on_parameters(run: Run, holder: Parameters, name: str, value: Value, site: Site) -> None:
    """Set an attribute of parameters."""
    match name:
        case "requires_grad":
            freeze(run, holder.units, value, site, part=holder.part and not _whole(holder))
        case "grad" | "_grad":
            gone = isinstance(value, Const) and value.value is None
            if gone:
                run.events.append(ClearAt(holder.units, site, None, not holder.part))
            else:
                run.note("gradient by hand", site, holder)
                for unit in holder.units:
                    unit.escaped = True
                for unit in value.units if isinstance(value, Parameters) else ():
                    unit.lent = True
        case "data":
            write(run, holder, [value], site)
        case _:
            run.note("attribute of parameter", site, holder, name, value)


def _whole(holder: Parameters) -> bool:
    return bool(holder.units) and all(unit.bare for unit in holder.units)


def build_optimizer(
    run: Run, params: Value | None, site: Site, frame: Frame, node: ast.AST, key: Hashable
) -> Optimizer:
    """Make an optimizer over what it is given."""
    optimizer = Optimizer(key, (), site)
    optimizer.complete = params is not None
    if params is not None:
        add_group(run, optimizer, params, frame, node)
    run.optimizers.append(optimizer)
    return optimizer


def add_group(run: Run, optimizer: Optimizer, params: Value, frame: Frame, node: ast.AST) -> None:
    """Give an optimizer further parameters."""
    units, complete = held_units(run, params, frame, node, optimizer)
    for unit in units:
        optimizer.units[unit] = None
        if optimizer not in unit.holders:
            unit.holders.append(optimizer)
    optimizer.complete = optimizer.complete and complete


def regroup(run: Run, optimizer: Optimizer, params: Value, frame: Frame, node: ast.AST) -> None:
    """Give an optimizer parameters in place of others: which it has kept is no longer known."""
    add_group(run, optimizer, params, frame, node)
    optimizer.escaped = True


def held_units(
    run: Run, params: Value, frame: Frame, node: ast.AST, optimizer: Optimizer
) -> tuple[list[Unit], bool]:
    """Return the units among what an optimizer is given, and whether that is all.

    Args:
        run: The execution.
        params: What it is given.
        frame: Where that happens.
        node: The call.
        optimizer: Takes note of the modules of which it is given everything, or only some.
    """
    match params:
        case Parameters():
            if params.once:
                if params.spent is not None and params.spent != frame.site(node):
                    run.note("spent group", params.made or params.spent, params, optimizer)
                    return [], True
                params.spent = frame.site(node)
            if params.part and not params.one:
                optimizer.partly.update(params.units)
            elif params.source is not None:
                optimizer.sources.append(params.source)
            return list(params.units), params.complete
        case Instance() if params.module:
            return units_of(params), True
        case Dict():
            inner = params.items.get("params")
            if inner is not None:
                return held_units(run, inner, frame, node, optimizer)
            return [], False
        case Seq():
            found, rest = elements(run, params, frame, node)
            units: list[Unit] = []
            complete = rest is None
            for item in found + ([rest] if rest is not None else []):
                more, whole = held_units(run, item, frame, node, optimizer)
                units += more
                complete = complete and whole
            return units, complete
        case Data():
            return list(params.flow), "leaf" in params.tags
        case _:
            return [], isinstance(params, Const)


def optimizer_by_shape(
    run: Run, made: Data, func: Value, args: list[Value], kwargs: dict[str, Value], site: Site
) -> Value:
    """Return an optimizer where an unknown call is given parameters as an optimizer is."""
    given = handed_on(run, made.key, [*args, *kwargs.values()])
    if given is not None:
        return given
    first = args[0] if args else kwargs.get("params", kwargs.get("parameters"))
    if first is None or not _parameters_only(first):
        return made
    name = func.name if isinstance(func, Library) else ".".join(getattr(func, "path", ()))
    short = name.rpartition(".")[2].lower()
    if any(word in short for word in _NO_OPTIMIZER):
        return made
    looks = "lr" in kwargs or "optim" in name.lower() or any(w in short for w in _OPTIMIZERS)
    if not looks and len(args) + len(kwargs) < 2:
        return made
    if not looks and not (
        {"lr", "learning_rate", "weight_decay", "betas", "eps", "**"} & kwargs.keys()
    ):
        return made
    optimizer = Optimizer(made.key, (), site)
    frame_units: list[Unit] = []
    complete = True
    _collect(first, frame_units)
    for unit in frame_units:
        optimizer.units[unit] = None
        unit.holders.append(optimizer)
    optimizer.complete = complete
    run.optimizers.append(optimizer)
    return optimizer


_OPTIMIZERS = ("adam", "sgd", "rmsprop", "lion", "lamb", "adagrad", "adafactor", "lbfgs", "muon")
_NO_OPTIMIZER = ("clip", "norm", "ema", "average", "parameters_to", "count", "init", "print", "log")


def _parameters_only(value: Value) -> bool:
    match value:
        case Parameters():
            return not value.values and not value.grads
        case Data():
            return "leaf" in value.tags
        case Seq():
            items = [*value.items, *([value.rest] if value.rest is not None else [])]
            return bool(items) and all(_parameters_only(item) for item in items)
        case Dict():
            inner = value.items.get("params")
            return inner is not None and _parameters_only(inner)
        case _:
            return False


def _collect(value: Value, into: list[Unit]) -> None:
    match value:
        case Parameters():
            into += value.units
        case Data():
            into += value.flow
        case Seq():
            for item in [*value.items, *([value.rest] if value.rest is not None else [])]:
                _collect(item, into)
        case Dict():
            inner = value.items.get("params")
            if inner is not None:
                _collect(inner, into)
        case _:
            return


def reach_of(value: Value) -> Flow:
    """Return where a value's gradient goes."""
    return carried(value).flow

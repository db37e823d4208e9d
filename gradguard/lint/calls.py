"""What calls do: the project's functions and classes are executed, libraries known by table."""

from __future__ import annotations

import ast
from collections.abc import Callable

from gradguard.lint import (
    attributes,
    events,
    expressions,
    labels,
    library,
    methods,
    statements,
    unknowns,
)
from gradguard.lint.carry import carried, entered, gather, layer, units_of
from gradguard.lint.iteration import elements
from gradguard.lint.opaque import opaque
from gradguard.lint.run import Barren, Frame, Idle, Run
from gradguard.lint.syntax import children, walk
from gradguard.lint.values import (
    LOCAL,
    NONE,
    Bound,
    Class,
    Const,
    Context,
    Data,
    Dict,
    Flow,
    Function,
    Hidden,
    Instance,
    Library,
    Optimizer,
    Parameters,
    Partial,
    Scope,
    Seq,
    Site,
    Super,
    Unit,
    Value,
)

__all__ = [
    "call",
    "call_model",
    "construct",
    "enter",
    "evaluate_call",
    "is_module_class",
    "require_gradient",
    "set_on_parameters",
    "write",
]

_DEEPEST = 40
require_gradient = events.require_gradient
set_on_parameters = events.set_on_parameters
write = events.write


def is_module_class(name: str) -> bool:
    """Say whether a library class is a ``torch.nn.Module``."""
    short = name.rpartition(".")[2]
    if name.startswith("torch.nn."):
        return True
    return short in ("Module", "LightningModule", "PreTrainedModel", "ModelMixin", "MessagePassing")


def evaluate_call(run: Run, node: ast.Call, frame: Frame) -> Value:
    """Evaluate a call where it stands."""
    if isinstance(node.func, ast.Name) and node.func.id == "super":
        if frame.receiver is not None and frame.cls is not None and not node.args:
            return Super(frame.receiver, frame.cls)
        if len(node.args) == 2:
            after = expressions.evaluate(run, node.args[0], frame)
            receiver = expressions.evaluate(run, node.args[1], frame)
            if isinstance(after, Class):
                return Super(receiver, after)
    func = expressions.evaluate(run, node.func, frame)
    args: list[Value] = []
    rest: Value | None = None
    for arg in node.args:
        if isinstance(arg, ast.Starred):
            inner = expressions.evaluate(run, arg.value, frame)
            if isinstance(inner, Parameters):
                args.append(inner)
                continue
            found, more = elements(run, inner, frame, arg)
            args += found
            rest = more if more is not None else rest
        else:
            args.append(expressions.evaluate(run, arg, frame))
    if rest is not None:
        args.append(rest)
    kwargs: dict[str, Value] = {}
    for keyword in node.keywords:
        value = expressions.evaluate(run, keyword.value, frame)
        if keyword.arg is not None:
            kwargs[keyword.arg] = value
        elif isinstance(value, Dict):
            kwargs.update({str(key): item for key, item in value.items.items()})
            if value.rest is not None:
                kwargs["**"] = value.rest
        else:
            kwargs["**"] = value
    return call(run, func, args, kwargs, frame, node)


def call(
    run: Run, func: Value, args: list[Value], kwargs: dict[str, Value], frame: Frame, node: ast.AST
) -> Value:
    """Call a value."""
    match func:
        case Function():
            return _call_function(run, func, args, kwargs, frame, node)
        case Class():
            return construct(run, func, args, kwargs, frame, node)
        case Library():
            return library.call_library(run, func.name, args, kwargs, frame, node)
        case Bound():
            return methods.call_method(run, func.receiver, func.name, args, kwargs, frame, node)
        case Partial():
            given = {**func.kwargs, **kwargs}
            return call(run, func.func, [*func.args, *args], given, frame, node)
        case Instance():
            return call_instance(run, func, args, kwargs, frame, node)
        case Data():
            return _call_unknown(run, func, args, kwargs, frame, node)
        case _:
            return opaque(run, args, kwargs, frame.site(node))


def _call_unknown(
    run: Run, func: Data, args: list[Value], kwargs: dict[str, Value], frame: Frame, node: ast.AST
) -> Value:
    if func.operands is not None and func.operands[0] == "attribute":
        receiver, name = func.operands[1]
        if isinstance(name, Const) and isinstance(name.value, str):
            return methods.call_method(run, receiver, name.value, args, kwargs, frame, node, func)
    run.witness(func.key, "called")
    named = func.path[-1] if func.path else func.name
    made = opaque(run, args, kwargs, frame.site(node), named, direct=True)
    if func.unknown:
        made.hidden = max(made.hidden, Hidden.ARGUMENT)
    made.key = run.key("called", func.key, frame.site(node), tuple(run.stack))
    if func.unknown and not made.flow and not made.cuts and made.hidden != Hidden.SWALLOWED:
        shaped = events.optimizer_by_shape(run, made, func, args, kwargs, frame.site(node))
        if shaped is not made:
            return shaped
        return unknowns.unknown(run, made.key, (), frame.site(node))
    return events.optimizer_by_shape(run, made, func, args, kwargs, frame.site(node))


def call_instance(
    run: Run,
    func: Instance,
    args: list[Value],
    kwargs: dict[str, Value],
    frame: Frame,
    node: ast.AST,
) -> Value:
    """Call an object."""
    if func.module:
        return call_model(run, func, args, kwargs, frame, node)
    if func.cls is not None:
        method = func.cls.find("__call__")
        if isinstance(method, Function):
            return call(run, method.bind(func), args, kwargs, frame, node)
        if func.cls.open:
            method = func.cls.find("forward")
            if isinstance(method, Function):
                return call(run, method.bind(func), args, kwargs, frame, node)
    return opaque(run, [func, *args], kwargs, frame.site(node))


def call_model(
    run: Run,
    func: Instance,
    args: list[Value],
    kwargs: dict[str, Value],
    frame: Frame,
    node: ast.AST,
    *,
    own_call: bool = True,
) -> Value:
    """Call a module: what it makes is dated to this call.

    Args:
        run: The execution.
        func: The module.
        args: What it is called with.
        kwargs: The same, by name.
        frame: Where it is called.
        node: The call.
        own_call: False to pass by a ``__call__`` of its own, as that does in the end.
    """
    site = frame.site(node)
    given = [*args, *kwargs.values()]
    if func.wrapped is not None:
        return call(run, func.wrapped, args, kwargs, frame, node)
    if func.cls is not None:
        method = func.cls.find("__call__") if own_call else None
        if not isinstance(method, Function):
            method = func.cls.find("forward")
        if isinstance(method, Function):
            before = gather(given).flow
            own = set(units_of(func))
            made = call(run, method.bind(func), args, kwargs, frame, node)
            if not _apart(own):
                _date(made, own, before, site, 3)
            _pass_through(run, made, own, before, 3)
            if not run.grad:
                _date_cuts(made, own.union(before), site, 3)
            return made
        return layer(run, units_of(func), given, site, sure=False)
    if func.items is not None and not _plain_container(func):
        return _call_container(run, func, args, kwargs, frame, node)
    if func.unit is None:
        return library.call_plain_layer(run, func, args, kwargs, frame, node)
    made = layer(run, [func.unit], given, site)
    if func.unit.opaque:
        made.unknown = True
        made.path = ()
        made.key = (
            run.key("output", func.key, *(arg.key for arg in args)) if not made.flow else made.key
        )
    return library.shape_output(run, func, made)


def _plain_container(func: Instance) -> bool:
    """Say whether a container computes with one set of parameters, which came with it."""
    return func.unit is not None


def _call_container(
    run: Run,
    func: Instance,
    args: list[Value],
    kwargs: dict[str, Value],
    frame: Frame,
    node: ast.AST,
) -> Value:
    site = frame.site(node)
    if func.lib.rpartition(".")[2] == "Sequential" and args:
        found, rest = elements(run, func, frame, node)
        value = args[0]
        own = set(units_of(func))
        before = gather(args).flow
        for part in [*found, *([rest] if rest is not None else [])]:
            value = call(run, part, [value], {}, frame, node)
        _date(value, own, before, site, 3)
        return value
    return layer(run, units_of(func), [*args, *kwargs.values()], site, sure=False)


def _apart(units: set[Unit]) -> bool:
    """Say whether optimizers keep the parts of a model apart, so that each is a model by itself."""
    return len({frozenset(map(id, unit.holders)) for unit in units if unit.holders}) > 1


def _date(made: Value, own: set, before: object, site: Site, depth: int) -> None:  # type: ignore[type-arg]
    """Say of what a model made where the program called the model, not where it did the work."""
    match made:
        case Data() if made.flow:
            flow = {}
            for unit, arrival in made.flow.items():
                if unit in own and unit not in before:  # type: ignore[operator]
                    flow[unit] = arrival._replace(made=site, enters=None)
                elif unit in before:  # type: ignore[operator]
                    known = before[unit]  # type: ignore[index]
                    flow[unit] = entered(arrival._replace(enters=known.enters), site)
                else:
                    flow[unit] = arrival
            made.flow = flow
        case Seq() if depth:
            for item in made.items:
                _date(item, own, before, site, depth - 1)
        case Dict() if depth:
            for item in made.items.values():
                _date(item, own, before, site, depth - 1)
        case Instance() if depth and not made.module:
            for item in made.attrs.values():
                _date(item, own, before, site, depth - 1)
        case _:
            return


def _date_cuts(made: Value, units: set[Unit], site: Site, depth: int) -> None:
    """Say of what a call under ``no_grad`` cuts off that the call does it, whatever is inside."""
    match made:
        case Data() if made.cuts:
            made.cuts = {
                unit: (site, how) if unit in units and how == "no_grad" else (where, how)
                for unit, (where, how) in made.cuts.items()
            }
        case Seq() if depth:
            for item in made.items:
                _date_cuts(item, units, site, depth - 1)
        case _:
            return


def _pass_through(run: Run, made: Value, own: set[Unit], before: Flow, depth: int) -> None:
    """Say of bare parameters that what their module was given lies behind them."""
    if not before:
        return
    match made:
        case Data() if made.flow:
            bare = [unit for unit in made.flow if unit.bare and unit in own and unit not in before]
            if bare:
                below = frozenset(before)
                flow = dict(made.flow)
                for unit in bare:
                    flow[unit] = flow[unit]._replace(
                        behind=flow[unit].behind | below, born=len(run.events)
                    )
                made.flow = flow
        case Seq() if depth:
            for item in made.items:
                _pass_through(run, item, own, before, depth - 1)
        case _:
            return


def _call_function(
    run: Run,
    func: Function,
    args: list[Value],
    kwargs: dict[str, Value],
    frame: Frame,
    node: ast.AST,
) -> Value:
    site = frame.site(node)
    barren = func.node in run.evidence.barren
    if barren or run.active.count(func.node) >= 2 or len(run.stack) > _DEEPEST:
        return _given_up(run, func, args, kwargs, site)
    if func.kind == "context":
        made = Context()
        made.generator = Partial(func, args, kwargs)
        return made
    idle = run.idle.get(func.node)
    if idle is not None and idle.spent > _IDLE and isinstance(idle.result, Value):
        return idle.result
    inner = _open(run, func, args, kwargs, site)
    run.stack.append(site)
    run.active.append(func.node)
    run.entered.add(id(func.node))
    before = run.grad
    if func.modes:
        run.grad = func.modes[0]
    run.budget.enter(run, bounded=func.file is not run.home and not _trains(func.node))
    work, fruit = run.budget.work, run.fruit() + run.layers
    try:
        result = _body(run, func, inner)
        if run.fruit() + run.layers == fruit and _is_plain(result) and not _trains(func.node):
            known = run.idle.setdefault(func.node, Idle())
            known.spent += work - run.budget.work
            known.result = result
        else:
            run.idle[func.node] = Idle(spent=-_NEVER)
        return result
    except Barren:
        run.budget.forgive()
        run.evidence.barren.add(func.node)
        return _given_up(run, func, args, kwargs, site)
    finally:
        run.budget.leave()
        run.grad = before
        run.active.pop()
        run.stack.pop()


_IDLE = 3_000
"""Statements after which a function that only ever returns plain data is not executed again."""

_NEVER = 10**9


def _is_plain(value: Value) -> bool:
    """Say whether a value carries no gradient, and stands for nothing that could."""
    match value:
        case Const():
            return True
        case Data():
            return not value.flow and not value.cuts and not value.unknown
        case _:
            return False


def _given_up(
    run: Run, func: Function, args: list[Value], kwargs: dict[str, Value], site: Site
) -> Value:
    """Make what a call returns that is not followed, or not to its end."""
    if isinstance(func.receiver, Instance):
        func.receiver.open = True
    given = [func.receiver, *args] if func.receiver is not None else args
    return opaque(run, given, kwargs, site, func.name)


_TRAINING = frozenset({"backward", "manual_backward", "minimize", "step", "zero_grad"})


def _trains(node: ast.AST) -> bool:
    """Say whether a function may run a loss backward or step an optimizer by itself."""
    known = getattr(node, "_trains", None)
    if known is None:
        known = any(
            isinstance(inner, ast.Attribute) and inner.attr in _TRAINING for inner in walk(node)
        )
        node._trains = known  # type: ignore[attr-defined]  # noqa: SLF001
    return bool(known)


def _body(run: Run, func: Function, inner: Frame) -> Value:
    if isinstance(func.node, ast.Lambda):
        return expressions.evaluate(run, func.node.body, inner)
    generator = _is_generator(func.node)
    if generator:
        inner.yields = []
    statements.execute(run, func.node.body, inner)
    if generator:
        made = inner.yields or []
        if made and all(isinstance(item, Parameters) and not item.one for item in made):
            units = [unit for item in made if isinstance(item, Parameters) for unit in item.units]
            return Parameters(units, once=True)
        return Seq(run.fresh(), made, "iterator")
    return inner.returned if inner.returned is not None else NONE


_GENERATORS: dict[int, bool] = {}


def _is_generator(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    known = getattr(node, "_generator", None)
    if known is None:
        known = _yields(node.body)
        node._generator = known  # type: ignore[union-attr]  # noqa: SLF001
    return bool(known)


def _yields(body: list[ast.stmt]) -> bool:
    queue: list[ast.AST] = list(body)
    while queue:
        node = queue.pop()
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            queue += children(node)
    return False


def _open(
    run: Run, func: Function, args: list[Value], kwargs: dict[str, Value], site: Site
) -> Frame:
    """Open the frame of a call and bind the parameters."""
    inner = Frame(func.file, Scope(func.scope))
    inner.cls, inner.function = func.cls, func
    arguments = func.node.args
    names = [arg.arg for arg in (*arguments.posonlyargs, *arguments.args)]
    given = (
        [func.receiver, *args]
        if func.receiver is not None and func.kind != "static"
        else list(args)
    )
    if func.cls is not None and given and names and func.kind != "static":
        inner.receiver = given[0]
    elif func.receiver is None and func.scope is not None:
        inner.receiver = func.scope.find("self")
    bound = inner.scope.names
    for name, value in zip(names, given, strict=False):
        bound[name] = value
        if isinstance(value, Instance | Optimizer) and not value.path and name != "self":
            labels.label(value, LOCAL + name, None)
    extra = given[len(names) :]
    if arguments.vararg is not None:
        bound[arguments.vararg.arg] = Seq(run.fresh(), extra, "tuple")
    known = {*names, *(arg.arg for arg in arguments.kwonlyargs)}
    surplus = {}
    for name, value in kwargs.items():
        if name in known:
            bound[name] = value
        else:
            surplus[name] = value
    if arguments.kwarg is not None:
        rest = surplus.pop("**", None)
        bound[arguments.kwarg.arg] = Dict(run.fresh(), dict(surplus), rest)
    for name in known:
        if name not in bound:
            default = func.defaults.get(name)
            bound[name] = (
                default if default is not None else missing_argument(run, func, name, site)
            )
    return inner


def missing_argument(run: Run, func: Function, name: str, site: Site) -> Value:
    """Return the unknown that a parameter stands for to which nothing was passed."""
    return unknowns.unknown(run, run.key("argument", func.key, name), (name,), site)


def construct(
    run: Run, cls: Class, args: list[Value], kwargs: dict[str, Value], frame: Frame, node: ast.AST
) -> Value:
    """Make an object of a class of the project."""
    creator = cls.find("__new__")
    site = frame.site(node)
    made = Instance(run.key("made", site, len(run.stack), cls.key), cls, cls.lib)
    made.key = run.fresh() if run.loops else made.key
    made.module = cls.module
    made.open = cls.open
    made.made = site
    run.made[cls.key] = made
    del creator
    initializer = cls.find("__init__")
    if isinstance(initializer, Function):
        call(run, initializer.bind(made), args, kwargs, frame, node)
    elif cls.find("__dataclass__") is not None:
        _fill_dataclass(run, cls, made, args, kwargs, frame, node)
    elif cls.lib:
        library.derived(run, made, args, kwargs, frame, node)
    if cls.lib.startswith("torch.autograd.Function"):
        made.module = False
    return made


def _fill_dataclass(
    run: Run,
    cls: Class,
    made: Instance,
    args: list[Value],
    kwargs: dict[str, Value],
    frame: Frame,
    node: ast.AST,
) -> None:
    fields = []
    for ancestor in reversed(list(cls.ancestors())):
        for statement in ancestor.node.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                fields.append((statement.target.id, ancestor, statement))
    left = list(args)
    for name, ancestor, statement in fields:
        if name in kwargs:
            value = kwargs[name]
        elif left and not _no_init(statement.value):
            value = left.pop(0)
        elif statement.value is not None:
            value = _field_default(run, statement.value, ancestor, frame)
        else:
            value = unknowns.unknown_part(run, made, name, frame, node)
        attributes.put(run, made, name, value, frame, node)
    after = cls.find("__post_init__")
    if isinstance(after, Function):
        call(run, after.bind(made), [], {}, frame, node)


def _no_init(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Call) and any(
        k.arg == "init" and isinstance(k.value, ast.Constant) and k.value.value is False
        for k in value.keywords
    )


def _field_default(run: Run, value: ast.expr, cls: Class, frame: Frame) -> Value:
    inner = Frame(cls.file, cls.scope or Scope())
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name | ast.Attribute):
        for keyword in value.keywords:
            if keyword.arg == "default_factory":
                factory = expressions.evaluate(run, keyword.value, inner)
                return call(run, factory, [], {}, inner, value)
            if keyword.arg == "default":
                return expressions.evaluate(run, keyword.value, inner)
        if any(keyword.arg == "init" for keyword in value.keywords):
            return NONE
    return expressions.evaluate(run, value, inner)


def enter(
    run: Run, value: Value, inside: Callable[[Value], None], frame: Frame, node: ast.AST
) -> None:
    """Execute the body of a ``with`` statement.

    Args:
        run: The execution.
        value: The context manager.
        inside: Executes the body; takes what ``as`` binds.
        frame: Where the statement stands.
        node: The expression of the context manager.
    """
    match value:
        case Context(generator=Partial() as made):
            _enter_generator(run, made, inside, frame, node)
        case Context():
            if value.contract is not None:
                run.contracts.append(value.contract)
            before = [(unit, unit.frozen) for unit in value.freezes]
            for unit in value.freezes:
                unit.frozen = True
            run.fixed.append(value.freezes)
            try:
                with run.gradient(value.grad):
                    inside(value.result)
            finally:
                for unit, state in before:
                    unit.frozen = state
                run.fixed.pop()
                if value.contract is not None:
                    run.contracts.pop()
        case Instance() if value.cls is not None and value.cls.find("__enter__") is not None:
            begin, end = value.cls.find("__enter__"), value.cls.find("__exit__")
            result: Value = value
            if isinstance(begin, Function):
                result = call(run, begin.bind(value), [], {}, frame, node)
            inside(result)
            if isinstance(end, Function):
                call(run, end.bind(value), [NONE, NONE, NONE], {}, frame, node)
        case Library() if value.name.rpartition(".")[2] in ("no_grad", "inference_mode"):
            with run.gradient(mode=False):
                inside(NONE)
        case Data():
            result = run.data(frame.site(node), value.flow, value.hidden)
            result.unknown, result.path = value.unknown, value.path
            result.terms, result.name, result.cuts = value.terms, value.name, value.cuts
            inside(result)
        case _:
            have = carried(value)
            inside(value if not have.flow else run.data(frame.site(node), have.flow, have.hidden))


def _enter_generator(
    run: Run, made: Partial, inside: Callable[[Value], None], frame: Frame, node: ast.AST
) -> None:
    function = made.func
    if not isinstance(function, Function) or isinstance(function.node, ast.Lambda):
        inside(NONE)
        return
    site = frame.site(node)
    inner = _open(run, function, made.args, made.kwargs, site)
    done = False

    def at_yield(value: Value) -> None:
        nonlocal done
        if done:
            return
        done = True
        inside(value)

    run.yielding[id(inner)] = at_yield
    run.stack.append(site)
    run.active.append(function.node)
    try:
        statements.execute(run, function.node.body, inner)
    finally:
        run.active.pop()
        run.stack.pop()
        del run.yielding[id(inner)]
    if not done:
        inside(NONE)

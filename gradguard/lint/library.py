"""What calls into libraries do, as far as it matters for gradients."""

from __future__ import annotations

import ast
from collections.abc import Callable

from gradguard.lint import attributes, calls, contract, events, unknowns
from gradguard.lint.carry import carried, cut, derive, gather, layer, units_of
from gradguard.lint.iteration import elements
from gradguard.lint.opaque import opaque
from gradguard.lint.run import Frame, Run, truth
from gradguard.lint.syntax import walk
from gradguard.lint.tables import (
    CREATES,
    CUTS,
    INDEXED,
    LIKE,
    LOG_PROBABILITIES,
    LOSSES,
    PARAMETRIC,
    REDUCES,
    RESHAPES,
    SAME,
    VALUES_AND_INDICES,
    WRAPPERS,
)
from gradguard.lint.values import (
    NONE,
    Bound,
    Class,
    Const,
    Context,
    Data,
    Dict,
    Function,
    Hidden,
    Instance,
    Library,
    Parameters,
    Partial,
    Seq,
    Unit,
    Value,
)

__all__ = ["call_library", "call_plain_layer", "derived", "shape_output", "tensor_function"]

Args = list[Value]
Kwargs = dict[str, Value]
Rule = Callable[[Run, Args, Kwargs, Frame, ast.AST], Value]


def call_library(
    run: Run, name: str, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST
) -> Value:
    """Call a function or class of a library."""
    root, _, _ = name.partition(".")
    short = name.rpartition(".")[2]
    if root == "builtins":
        rule = _BUILTINS.get(short)
        if rule is not None:
            return rule(run, args, kwargs, frame, node)
        return _plain(run, args, kwargs, frame, node)
    rule = _FUNCTIONS.get(name)
    if rule is not None:
        return rule(run, args, kwargs, frame, node)
    if root == "gradguard":
        return contract.call(run, short, args, kwargs, frame, node)
    if root == "torch":
        return _torch(run, name, short, args, kwargs, frame, node)
    if root in (
        "numpy",
        "np",
        "math",
        "random",
        "os",
        "time",
        "json",
        "logging",
        "warnings",
        "sys",
    ):
        return _severed(run, [*args, *kwargs.values()], frame, node, root)
    if short in WRAPPERS and args:
        return _wrap(run, args, kwargs, frame, node)
    if short in ("tqdm", "track"):
        return args[0] if args else _plain(run, args, kwargs, frame, node)
    return _foreign(run, name, args, kwargs, frame, node)


def _foreign(run: Run, name: str, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    """Call something of which nothing is known."""
    site = frame.site(node)
    made = opaque(run, args, kwargs, site, name.rpartition(".")[2])
    key = made.key = run.key("library call", name, site, tuple(run.stack))
    found = events.optimizer_by_shape(run, made, Library(name), args, kwargs, site)
    if found is not made:
        return found
    if made.flow or made.cuts or made.hidden == Hidden.SWALLOWED:
        return made
    return unknowns.unknown(run, key, (), site)


def _plain(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    keys = [arg.key for arg in args]
    return run.data(frame.site(node), key=run.key("call", id(node), *keys))


def _severed(run: Run, given: Args, frame: Frame, node: ast.AST, how: str) -> Value:
    site = frame.site(node)
    have = gather(given)
    made = run.data(site, key=run.key("call", id(node), *(arg.key for arg in given)))
    made.cuts = {**have.cuts, **dict.fromkeys(have.flow, (site, how))}
    return made


# --- torch ------------------------------------------------------------------------------------


def _torch(
    run: Run, name: str, short: str, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST
) -> Value:
    if name.startswith("torch.nn.") and short[:1].isupper() and ".functional." not in name:
        return _layer_class(run, name, short, args, kwargs, frame, node)
    if name.startswith(("torch.nn.utils.", "torch.nn.init.")):
        first = args[0] if args else NONE
        if "norm" in short and "clip" not in short and isinstance(first, Instance):
            return first
        if short == "parameters_to_vector":
            return derive(run, "cat", args[:1], frame.site(node))
        if short == "vector_to_parameters":
            events.write(run, args[1], [args[0]], frame.site(node)) if len(args) > 1 else None
        return _plain(run, args, kwargs, frame, node)
    if name.startswith("torch.optim."):
        return _optim(run, name, short, args, kwargs, frame, node)
    if name.startswith("torch.distributions."):
        return _distribution(run, short, args, kwargs, frame, node)
    if short in WRAPPERS:
        return _wrap(run, args, kwargs, frame, node)
    if short == "GradScaler":
        return Instance(run.fresh(), lib="GradScaler")
    if name.startswith(("torch.utils.data", "torch.cuda", "torch.backends", "torch.distributed")):
        if short == "autocast":
            return Context()
        if short == "DataLoader":
            loader = run.data(frame.site(node))
            loader.unknown = True
            return loader
        return _severed(run, [*args, *kwargs.values()], frame, node, short)
    if name.startswith(("torch.hub", "torch.load", "torch.jit.load")):
        return _foreign(run, name, args, kwargs, frame, node)
    return tensor_function(run, short, args, kwargs, frame, node)


def tensor_function(
    run: Run, short: str, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST
) -> Value:
    """Call a function that computes a tensor from its arguments."""
    site = frame.site(node)
    given = [*args, *(value for key, value in kwargs.items() if key not in ("dim", "dtype", "out"))]
    if short in LIKE or short in CREATES:
        made = run.data(site)
        if short.rpartition("_like")[0] in _CONSTANT or short.removeprefix("new_") in _CONSTANT:
            made.tags = frozenset({"constant"})
        if short in ("tensor", "as_tensor", "from_numpy", "Tensor", "FloatTensor", "new_tensor"):
            have = gather(given)
            made.cuts = {**have.cuts, **dict.fromkeys(have.flow, (site, f"torch.{short}"))}
        wants = kwargs.get("requires_grad")
        if isinstance(wants, Const) and wants.value:
            events.require_gradient(run, made, wants, site)
        return made
    if short in CUTS:
        made = cut(run, Seq(None, given), site, short)
        made.key = run.key("call", short, *(arg.key for arg in given))
        return made
    if short in VALUES_AND_INDICES and args:
        return _values_and_indices(run, short, args, kwargs, frame, node)
    if short == "where" and len(args) == 3:
        return derive(run, "where", args[1:], site)
    if short in INDEXED and args:
        carriers = [args[0], *[a for a in args[1:] if short.startswith("scatter")]]
        if short == "embedding" and len(args) > 1:
            return layer(run, units_of(args[1]), [], site)
        made = derive(run, "index", carriers, site)
        made.tags = args[0].tags if isinstance(args[0], Data) else frozenset()
        return made
    if short in ("chunk", "split", "unbind", "tensor_split") and args:
        return _pieces(run, args[0], args[1:], frame, node)
    if short == "masked_fill":
        given = [args[0], *args[2:]]
    operation = _operation(short)
    made = derive(run, operation, given, site)
    if short in LOG_PROBABILITIES:
        made.tags |= {"logp"}
    elif short == "log" and isinstance(args[0] if args else None, Data):
        made.tags |= {"log"}
    return made


_CONSTANT = frozenset({"ones", "zeros", "full", "empty"})


def _operation(short: str) -> str:
    if short in REDUCES:
        return short
    if short in SAME:
        return SAME[short]
    return "reshape" if short in RESHAPES else short


def _pieces(run: Run, value: Value, args: Args, frame: Frame, node: ast.AST) -> Value:
    site = frame.site(node)
    count = args[0].value if args and isinstance(args[0], Const) else None
    if isinstance(value, Data) and not value.flow and not value.cuts and value.unknown:
        return unknowns.unknown_part(run, value, "split", frame, node)
    if isinstance(count, int) and 1 < count <= 4:
        items: Args = [derive(run, "index", [value], site) for _ in range(count)]
        return Seq(run.fresh(), items, "tuple")
    return Seq(run.fresh(), [], "tuple", derive(run, "index", [value], site))


def _values_and_indices(
    run: Run, short: str, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST
) -> Value:
    site = frame.site(node)
    second = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("k"))
    if isinstance(second, Data) and not isinstance(args[0], Const) and short in ("max", "min"):
        return derive(run, short, [args[0], second], site)
    if second is None and short in ("max", "min", "median", "mode"):
        return derive(run, short, [args[0]], site)
    values = derive(run, short, [args[0]], site)
    values.tags = args[0].tags if isinstance(args[0], Data) else frozenset()
    return Seq(run.fresh(), [values, cut(run, args[0], site, f"{short} indices")], "tuple")


def _layer_class(
    run: Run, name: str, short: str, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST
) -> Value:
    site = frame.site(node)
    if short in ("Parameter", "UninitializedParameter", "Buffer"):
        return _parameter(run, short, args, kwargs, frame, node)
    if short in WRAPPERS:
        return _wrap(run, args, kwargs, frame, node)
    made = Instance(run.fresh(), lib=name)
    made.module, made.made = True, site
    if short == "Module":
        return made
    if short in ("Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict"):
        fill_container(run, made, short, args, frame, node)
        return made
    if short in PARAMETRIC or "Lazy" in short:
        made.unit = run.unit(run.key("layer", site, len(run.stack), len(run.units)), ())
        made.unit.made, made.unit.owner = site, made
        if "from_pretrained" in name:
            made.unit.frozen = None
    return made


def fill_container(
    run: Run, made: Instance, short: str, args: Args, frame: Frame, node: ast.AST
) -> None:
    """Give a module container its children."""
    if short in ("ModuleDict", "ParameterDict"):
        first = args[0] if args else None
        made.items = first if isinstance(first, Dict) else Dict(run.fresh())
        if isinstance(first, Data):
            made.items.rest = first
        return
    items: Args = []
    rest: Value | None = None
    if short == "Sequential":
        if len(args) == 1 and isinstance(args[0], Dict):
            items = list(args[0].items.values())
        elif len(args) == 1 and isinstance(args[0], Seq):
            items, rest = args[0].items, args[0].rest
        else:
            items = list(args)
        items = [
            item.items[1] if isinstance(item, Seq) and len(item.items) == 2 else item
            for item in items
        ]
    elif args:
        items, rest = elements(run, args[0], frame, node)
    made.items = Seq(run.fresh(), items, "list", rest)
    if short == "Sequential":
        _unite(run, made, items, rest, frame, node)


def _unite(
    run: Run, made: Instance, items: Args, rest: Value | None, frame: Frame, node: ast.AST
) -> None:
    """Make one set of parameters of layers that nobody can get at but through the sequence."""
    parts = [item for item in items if isinstance(item, Instance)]
    simple = len(parts) == len(items) and all(
        part.module and part.cls is None and part.wrapped is None and not part.path
        for part in parts
    )
    if not simple or (rest is not None and not isinstance(rest, Data | Instance)):
        return
    units = [
        unit
        for part in [*parts, *([rest] if isinstance(rest, Instance) else [])]
        for unit in units_of(part)
    ]
    if not units and rest is None:
        return
    if any(unit.holders or unit.opaque for unit in units):
        return
    site = frame.site(node)
    whole = run.unit(run.key("sequence", site, len(run.stack), len(run.units)), ())
    whole.made, whole.owner = site, made
    if any(unit.frozen is not False for unit in units):
        whole.frozen = True if all(unit.frozen for unit in units) else None
    _replace(parts, whole, set(units))
    made.unit = whole


def _replace(parts: list[Instance], whole: Unit, old: set[Unit]) -> None:
    for part in parts:
        if part.unit in old:
            part.unit = whole
        if isinstance(part.items, Seq):
            _replace([i for i in part.items.items if isinstance(i, Instance)], whole, old)


def _parameter(
    run: Run, short: str, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST
) -> Value:
    site = frame.site(node)
    if short == "Buffer":
        return run.data(site)
    first = args[0] if args else kwargs.get("data")
    if isinstance(first, Parameters):
        return first.like(one=True, values=False)
    unit = run.unit(run.key("parameter", site, len(run.stack), len(run.units)), (), bare=True)
    unit.made = site
    wants = kwargs.get("requires_grad", args[1] if len(args) > 1 else None)
    if isinstance(wants, Const):
        unit.frozen = not wants.value
    elif wants is not None:
        unit.frozen = None
    return Parameters([unit], one=True)


def derived(
    run: Run, made: Instance, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST
) -> None:
    """Construct what a project class inherits from a library's."""
    short = made.lib.rpartition(".")[2]
    if short in ("Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict"):
        fill_container(run, made, short, args, frame, node)
    elif made.lib.startswith("torch.nn.") and short in PARAMETRIC and made.unit is None:
        made.unit = run.unit(run.key("layer", frame.site(node), len(run.units)), made.path)
        made.unit.owner = made
    elif short in _MAPPINGS and not made.module:
        made.items = _mapping(run, args, kwargs)
    elif made.lib.startswith("torch.distributions."):
        made.attrs["<distribution>"] = _distribution(run, short, args, kwargs, frame, node)
    elif made.lib.startswith("torch.optim."):
        made.attrs.setdefault(
            "<optimizer>", _optim(run, made.lib, short, args, kwargs, frame, node)
        )


_MAPPINGS = frozenset({"OrderedDict", "dict", "UserDict", "ModelOutput"})


def _mapping(run: Run, args: Args, kwargs: Kwargs) -> Dict:
    first = args[0] if args else None
    made = Dict(run.fresh(), first.items if isinstance(first, Dict) else {})
    if isinstance(first, Data):
        made.rest = first
    made.items.update({key: value for key, value in kwargs.items() if key != "**"})
    return made


def _wrap(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    inner = args[0] if args else kwargs.get("module", NONE)
    if isinstance(inner, Data) and inner.unknown:
        run.witness(inner.key, "model")
        return inner
    if not isinstance(inner, Instance):
        return inner
    made = Instance(run.fresh(), lib="wrapper")
    made.module, made.wrapped, made.path = True, inner, inner.path
    return made


def _optim(
    run: Run, name: str, short: str, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST
) -> Value:
    site = frame.site(node)
    if "AveragedModel" in short and args:
        made = copied(run, args[0], frame, node)
        for unit in units_of(made):
            unit.shadow = True
        return made
    if "lr_scheduler" in name or not short[:1].isupper() or "swa" in short.lower():
        made_data = run.data(site)
        made_data.operands = ("scheduler", tuple(args))
        return made_data
    params = args[0] if args else kwargs.get("params")
    return events.build_optimizer(run, params, site, frame, node, run.fresh())


def _distribution(
    run: Run, short: str, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST
) -> Value:
    made = derive(run, "distribution", [*args, *kwargs.values()], frame.site(node))
    if short == "kl_divergence":
        made.operands = ("kl_divergence", tuple(args))
        return made
    made.tags = frozenset({"distribution"})
    return made


def _no_grad(mode: bool) -> Rule:
    def rule(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
        if args and isinstance(args[0], Function):
            bound = args[0]
            bound.modes = (*bound.modes, mode)
            return bound
        flag = args[0] if args else kwargs.get("mode")
        if isinstance(flag, Const) and not flag.value and not mode:
            return Context(grad=None)
        return Context(grad=mode)

    return rule


def _set_grad_enabled(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    flag = args[0] if args else kwargs.get("mode", NONE)
    known = truth(flag)
    if known is None and isinstance(flag, Data) and flag.hint is not None:
        known = bool(flag.hint.value)
    if known is None:
        known = run.decisions.setdefault(flag.key, True)
    made = Context(grad=known)
    made.contract = None
    made.key = ("context", "set", known)
    return made


def _autograd_backward(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    losses = args[0] if args else kwargs.get("tensors", NONE)
    found = losses.items if isinstance(losses, Seq) else [losses]
    return events.backward(run, found, frame, node, into=kwargs.get("inputs"))


def _autograd_grad(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    site = frame.site(node)
    run.visited.add(id(node))
    outputs = args[0] if args else kwargs.get("outputs", NONE)
    inputs = args[1] if len(args) > 1 else kwargs.get("inputs", NONE)
    keeps = kwargs.get("create_graph")
    graph = keeps is not None and not (isinstance(keeps, Const) and not keeps.value)
    have = carried(outputs)
    wanted = inputs.items if isinstance(inputs, Seq) and inputs.closed else [inputs]
    made: Args = []
    for one in wanted:
        if isinstance(one, Parameters):
            run.note("gradient by hand", site, one)
            for unit in one.units:
                unit.escaped = True
        grad = run.data(site, have.flow if graph else {}, have.hidden)
        grad.operands = ("grad", (outputs, one))
        made.append(grad)
    if isinstance(inputs, Parameters) and not inputs.one:
        return Seq(run.fresh(), [], "tuple", made[0])
    return Seq(run.fresh(), made, "tuple")


def copied(run: Run, value: Value, frame: Frame, node: ast.AST) -> Value:
    """Copy a value deeply: its parameters are others, of the same make."""
    return _copied(run, value, {}, frame, node)


def _copied(run: Run, value: Value, seen: dict[int, Value], frame: Frame, node: ast.AST) -> Value:
    known = seen.get(id(value))
    if known is not None:
        return known
    match value:
        case Instance():
            made = Instance(run.fresh(), value.cls, value.lib)
            seen[id(value)] = made
            made.module, made.open, made.made = value.module, value.open, frame.site(node)
            made.copied = True
            if value.unit is not None:
                made.unit = _copied_unit(run, value.unit, seen)
                made.unit.owner = made
            made.attrs = {k: _copied(run, v, seen, frame, node) for k, v in value.attrs.items()}
            if value.items is not None:
                items = _copied(run, value.items, seen, frame, node)
                made.items = items if isinstance(items, Seq | Dict) else None
            if value.wrapped is not None:
                made.wrapped = _copied(run, value.wrapped, seen, frame, node)
            return made
        case Parameters() if value.one and not value.values:
            units = [_copied_unit(run, unit, seen) for unit in value.units]
            return value.like(units=units)
        case Seq():
            rest = _copied(run, value.rest, seen, frame, node) if value.rest is not None else None
            items_ = [_copied(run, item, seen, frame, node) for item in value.items]
            return Seq(run.fresh(), items_, value.kind, rest)
        case Dict():
            rest = _copied(run, value.rest, seen, frame, node) if value.rest is not None else None
            entries = {k: _copied(run, v, seen, frame, node) for k, v in value.items.items()}
            return Dict(run.fresh(), entries, rest)
        case Data() if value.unknown and not value.flow:
            key = run.key("copy", value.key, frame.site(node))
            run.witness(value.key, "copied")
            if unknowns.taken_for(run, value.key, value.path) == "model":
                run.witness(key, "model")
            return unknowns.unknown(run, key, (), frame.site(node))
        case _:
            return value


def _copied_unit(run: Run, unit: Unit, seen: dict[int, Value]) -> Unit:
    known = seen.get(id(unit))
    if isinstance(known, Parameters):
        return known.units[0]
    made = run.unit(run.key("copy of", unit.key, len(run.units)), (), bare=unit.bare)
    made.origin, made.frozen, made.opaque = unit, unit.frozen, unit.opaque
    made.shadow = True
    seen[id(unit)] = Parameters([made])
    return made


def _deepcopy(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    return copied(run, args[0], frame, node) if args else NONE


def _same(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    if args:
        return args[0]
    return kwargs.get("model") or kwargs.get("module") or NONE


def _partial(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    return Partial(args[0], args[1:], kwargs) if args else NONE


def _chain(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    if args and all(isinstance(arg, Parameters) for arg in args):
        units = [unit for arg in args if isinstance(arg, Parameters) for unit in arg.units]
        first = args[0]
        named = isinstance(first, Parameters) and first.named
        return Parameters(units, once=True, named=named)
    items: Args = []
    rest: Value | None = None
    for arg in args:
        if isinstance(arg, Parameters):
            items.append(arg.like())
            continue
        found, more = elements(run, arg, frame, node)
        items += found
        rest = more if more is not None else rest
    return _flat(run, items, rest, "iterator")


def _flat(run: Run, items: Args, rest: Value | None, kind: str) -> Value:
    several = [i for i in items if isinstance(i, Parameters) and not i.one]
    if items and len(several) == len(items) and rest is None:
        return Parameters([u for i in several for u in i.units], once=kind == "iterator")
    return Seq(run.fresh(), items, kind, rest)


def _chained(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    if not args:
        return NONE
    if isinstance(args[0], Parameters):
        return args[0]
    found, rest = elements(run, args[0], frame, node)
    return _chain(run, found + ([rest] if rest is not None else []), {}, frame, node)


def _namespace(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    made = Instance(run.fresh(), lib="types.SimpleNamespace")
    made.attrs.update(kwargs)
    return made


def _nullcontext(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    return Context(None, args[0] if args else NONE)


def _ordered(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    if args and isinstance(args[0], Dict):
        return Dict(run.fresh(), args[0].items, args[0].rest)
    if args and isinstance(args[0], Parameters) and not args[0].one and not kwargs:
        return args[0].like(named=True)
    made = Dict(run.fresh(), dict(kwargs))
    if args and isinstance(args[0], Seq):
        for pair in args[0].items:
            if isinstance(pair, Seq) and len(pair.items) == 2 and isinstance(pair.items[0], Const):
                made.items[pair.items[0].value] = pair.items[1]
            else:
                made.rest = pair.items[-1] if isinstance(pair, Seq) and pair.items else pair
        if args[0].rest is not None:
            last = args[0].rest
            made.rest = last.items[-1] if isinstance(last, Seq) and last.items else last
    elif args and isinstance(args[0], Data):
        return args[0]
    return made


def _defaultdict(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    made = Dict(run.fresh())
    short = args[0].name.rpartition(".")[2] if args and isinstance(args[0], Library) else ""
    if short == "list":
        made.rest = Seq(run.fresh(), [], "list", None)
    elif short == "dict":
        made.rest = Dict(run.fresh())
    else:
        made.rest = run.data(frame.site(node))
    return made


def _namedtuple(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    names: list[str] = []
    if len(args) > 1:
        if isinstance(args[1], Const) and isinstance(args[1].value, str):
            names = args[1].value.replace(",", " ").split()
        elif isinstance(args[1], Seq):
            names = [str(i.value) for i in args[1].items if isinstance(i, Const)]
    return Partial(Library("gradguard.<namedtuple>"), [Const(tuple(names))], {})


def _make_namedtuple(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    names = args[0].value if isinstance(args[0], Const) and isinstance(args[0].value, tuple) else ()
    made = Instance(run.fresh(), lib="types.SimpleNamespace")
    values = [*args[1:]]
    for number, name in enumerate(names):
        value = (
            values[number] if number < len(values) else kwargs.get(name, run.data(frame.site(node)))
        )
        made.attrs[str(name)] = value
    made.items = Seq(run.fresh(), list(made.attrs.values()), "tuple")
    return made


def shape_output(run: Run, func: Instance, made: Data) -> Value:
    """Return a layer's output in the form in which the layer returns it."""
    short = func.lib.rpartition(".")[2]
    if short in ("LSTM", "GRU", "RNN", "LSTMCell", "MultiheadAttention"):
        return Seq(run.fresh(), [made, made], "tuple")
    return made


def call_plain_layer(
    run: Run, func: Instance, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST
) -> Value:
    """Call a layer without parameters: an activation or a loss."""
    short = func.lib.rpartition(".")[2]
    if func.lib == "wrapper" or short in ("ModuleList", "ModuleDict"):
        return opaque(run, args, kwargs, frame.site(node))
    if short == "Identity" and args:
        return args[0]
    if not func.lib.startswith("torch.nn."):
        return opaque(run, [func, *args], kwargs, frame.site(node))
    name = LOSSES.get(short, short.lower())
    return tensor_function(run, name, args, kwargs, frame, node)


# --- builtins ---------------------------------------------------------------------------------


_MOST_INDICES = 8


def _range(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    bounds = [arg.value for arg in args if isinstance(arg, Const) and isinstance(arg.value, int)]
    if args and len(bounds) == len(args) and 0 not in bounds[2:]:
        numbers = range(*bounds)
        if len(numbers) <= _MOST_INDICES and any(arg.key[:1] == ("len",) for arg in args):  # type: ignore[index]
            return Seq(run.fresh(), [Const(number) for number in numbers], "indices")
        if len(numbers) <= 3:
            return Seq(run.fresh(), [Const(number) for number in numbers], "range")
    number = run.data(frame.site(node), key=run.key("number", frame.site(node)))
    return Seq(run.fresh(), [], "iterator", number)


def _len(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    held = args[0] if args else None
    if isinstance(held, Instance) and held.items is not None:
        held = held.items
    if isinstance(held, Seq | Dict) and held.rest is None:
        items = held.items if isinstance(held, Seq) else list(held.items.values())
        if 0 < len(items) <= _MOST_INDICES and not any(isinstance(i, Data | Const) for i in items):
            count = Const(len(items))
            count.key = ("len", held.key)
            return count
    return _plain(run, args, kwargs, frame, node)


def _zip(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    columns = [elements(run, arg, frame, node) for arg in args]
    if not columns:
        return Seq(run.fresh())
    known = [len(items) for items, rest in columns if rest is None]
    count = min(known) if known else 0
    rows: Args = []
    for number in range(count):
        parts = [items[number] if number < len(items) else rest for items, rest in columns]
        rows.append(Seq(run.fresh(), [part for part in parts if part is not None], "tuple"))
    if known:
        return Seq(run.fresh(), rows, "iterator")
    longest = max(len(items) for items, _ in columns)
    for number in range(longest):
        parts = [items[number] if number < len(items) else rest for items, rest in columns]
        rows.append(Seq(run.fresh(), [part for part in parts if part is not None], "tuple"))
    last = Seq(run.fresh(), [rest for _, rest in columns if rest is not None], "tuple")
    return Seq(run.fresh(), rows, "iterator", last)


def _enumerate(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    if not args:
        return Seq(run.fresh())
    found, rest = elements(run, args[0], frame, node)
    rows: Args = [Seq(run.fresh(), [Const(n), item], "tuple") for n, item in enumerate(found)]
    last = None
    if rest is not None:
        number = run.data(frame.site(node), key=run.key("number", frame.site(node)))
        last = Seq(run.fresh(), [number, rest], "tuple")
    return Seq(run.fresh(), rows, "iterator", last)


def _list(kind: str) -> Rule:
    def rule(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
        if not args:
            return Seq(run.fresh(), [], kind)
        value = args[0]
        if isinstance(value, Parameters) and not value.one:
            if value.once:
                if value.spent is not None and value.spent != frame.site(node):
                    return Seq(run.fresh(), [], kind)
                value.spent = frame.site(node)
            return value.like()
        if isinstance(value, Data) and not value.unknown:
            return Seq(run.fresh(), [], kind, derive(run, "index", [value], frame.site(node)))
        if isinstance(value, Data) and not value.flow:
            return value
        found, rest = elements(run, value, frame, node)
        return Seq(run.fresh(), found, kind, rest)

    return rule


def _first(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    return args[0] if args else NONE


def _next(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    if not args:
        return NONE
    if isinstance(args[0], Parameters):
        return args[0].like(one=True, part=True)
    found, rest = elements(run, args[0], frame, node)
    if found:
        return found[0]
    return rest if rest is not None else run.data(frame.site(node))


def _isinstance(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    if len(args) == 2:
        known = _instance_of(args[0], args[1])
        if known is not None:
            return Const(known)
        if isinstance(args[0], Data) and args[0].unknown:
            for cls in args[1].items if isinstance(args[1], Seq) else [args[1]]:
                if isinstance(cls, Library) and cls.name == "torch.nn.Module":
                    run.witness(args[0].key, "maybe model")
        return run.data(frame.site(node), key=run.key("isinstance", args[0].key, args[1].key))
    return run.data(frame.site(node))


_KINDS = {
    "builtins.list": ("list",),
    "builtins.tuple": ("tuple",),
    "builtins.set": ("set",),
}


def _instance_of(value: Value, cls: Value) -> bool | None:
    if isinstance(cls, Seq):
        answers = [_instance_of(value, one) for one in cls.items]
        return True if True in answers else (None if None in answers else False)
    if isinstance(value, Instance) and value.lib == "opaque":
        return True if isinstance(cls, Library) and cls.name == "torch.nn.Module" else None
    if isinstance(cls, Class):
        if isinstance(value, Instance):
            return value.cls is not None and cls in value.cls.ancestors()
        return None if isinstance(value, Data) else False
    if not isinstance(cls, Library):
        return None
    if cls.name == "torch.Tensor":
        if isinstance(value, Data):
            return None if value.unknown else True
        return isinstance(value, Parameters) or (None if isinstance(value, Library) else False)
    if cls.name == "torch.nn.Module":
        if isinstance(value, Instance):
            return value.module
        return None if isinstance(value, Data) and value.unknown else False
    if isinstance(value, Seq):
        kinds = _KINDS.get(cls.name)
        return (
            value.kind in kinds if kinds else (False if cls.name.startswith("builtins") else None)
        )
    if isinstance(value, Dict):
        return cls.name in ("builtins.dict", "collections.OrderedDict", "collections.abc.Mapping")
    if isinstance(value, Const):
        kind = type(value.value).__name__
        return cls.name == f"builtins.{kind}" if cls.name.startswith("builtins.") else None
    if isinstance(value, Instance) and value.lib == "torch.nn.Module" and value.cls is not None:
        return False if cls.name.startswith("torch.nn.") else None
    if isinstance(value, Instance) and value.cls is None and value.lib.startswith("torch."):
        return value.lib == cls.name if cls.name.startswith("torch.nn.") else None
    if isinstance(value, Data) and not value.unknown and cls.name.startswith("builtins."):
        return False
    return None


def _hasattr(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    if len(args) == 2 and isinstance(args[1], Const) and isinstance(args[0], Instance):
        name, value = str(args[1].value), args[0]
        if name in value.attrs or (value.cls is not None and value.cls.find(name) is not None):
            return Const(True)
        if value.cls is not None and not value.cls.open and value.wrapped is None:
            return Const(
                value.module and isinstance(attributes.get(run, value, name, frame, node), Bound)
            )
    return run.data(frame.site(node), key=run.key("hasattr", *(arg.key for arg in args)))


def _getattr(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    if len(args) >= 2 and isinstance(args[1], Const) and isinstance(args[1].value, str):
        known = isinstance(args[0], Instance) and args[0].cls is not None and not args[0].open
        if len(args) > 2 and known and isinstance(args[0], Instance):
            present = args[1].value in args[0].attrs or args[0].cls.find(args[1].value)  # type: ignore[union-attr]
            if not present:
                return args[2]
        if isinstance(args[0], Library) and args[0].name == "torch.optim":
            return Library(f"torch.optim.{args[1].value}")
        return attributes.get(run, args[0], args[1].value, frame, node)
    if len(args) >= 2 and isinstance(args[0], Library):
        # A class picked by a name from the configuration: any of the library's will do.
        if args[0].name == "torch.optim":
            return Library("torch.optim.Adam")
        return Library(f"{args[0].name}.<chosen>")
    if len(args) >= 2 and isinstance(args[0], Instance):
        path = f"<{args[1].key}>"
        return unknowns.unknown_part(run, args[0], path, frame, node)
    return opaque(run, args, kwargs, frame.site(node))


def _setattr(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    if len(args) == 3 and isinstance(args[1], Const):
        attributes.put(run, args[0], str(args[1].value), args[2], frame, node)
    elif len(args) == 3 and isinstance(args[0], Instance):
        args[0].attrs[f"<{args[1].key}>"] = args[2]
        args[0].open = True
    return NONE


def _sum(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    if not args:
        return NONE
    found, rest = elements(run, args[0], frame, node)
    parts = found + ([rest] if rest is not None else [])
    parts += args[1:2]
    return derive(run, "add", parts, frame.site(node))


def _extreme(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    if (
        all(isinstance(arg, Const) and isinstance(arg.value, int | float) for arg in args)
        and len(args) > 1
    ):
        return run.data(frame.site(node), key=run.key("call", id(node), *(arg.key for arg in args)))
    return derive(run, "extreme", args, frame.site(node))


def _map(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    if len(args) < 2:
        return NONE
    rows = _zip(run, args[1:], {}, frame, node)
    found, rest = elements(run, rows, frame, node)
    made = [
        calls.call(run, args[0], list(row.items), {}, frame, node)
        for row in found
        if isinstance(row, Seq)
    ]
    last = None
    if isinstance(rest, Seq):
        last = calls.call(run, args[0], list(rest.items), {}, frame, node)
    return _flat(run, made, last, "iterator")


def _filter(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    if len(args) != 2:
        return NONE
    if isinstance(args[1], Parameters) and isinstance(args[0], Function):
        return _filtered_parameters(args[0], args[1])
    return args[1]


def _filtered_parameters(test: Function, value: Parameters) -> Value:
    by_flag = any(
        isinstance(inner, ast.Attribute) and inner.attr == "requires_grad"
        for inner in walk(test.node)
    )
    if by_flag:
        units = [unit for unit in value.units if unit.frozen is not True]
        return Parameters(units, once=True, named=value.named)
    return value.like(part=True)


def _vars(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    if args and isinstance(args[0], Instance):
        return Dict(run.fresh(), dict(args[0].attrs))
    return run.data(frame.site(node))


def _type(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    if len(args) == 1 and isinstance(args[0], Instance) and args[0].cls is not None:
        return args[0].cls
    return _plain(run, args, kwargs, frame, node)


def _number(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    if args and isinstance(args[0], Const):
        return args[0]
    return _severed(run, args, frame, node, "float")


def _slice_of(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    return args[0] if args else NONE


def _lifted(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    """Call what transforms a function of parameters: nothing lands in any ``.grad``."""
    return run.data(frame.site(node), hidden=Hidden.SWALLOWED)


def _dataclass_field(run: Run, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST) -> Value:
    """Return what an object finds in a field to which nothing was passed."""
    factory = kwargs.get("default_factory")
    if factory is not None:
        return calls.call(run, factory, [], {}, frame, node)
    return kwargs.get("default") or _plain(run, args, {}, frame, node)


_BUILTINS: dict[str, Rule] = {
    "range": _range,
    "len": _len,
    "zip": _zip,
    "enumerate": _enumerate,
    "list": _list("list"),
    "tuple": _list("tuple"),
    "set": _list("set"),
    "sorted": _list("list"),
    "reversed": _list("list"),
    "iter": _first,
    "next": _next,
    "isinstance": _isinstance,
    "hasattr": _hasattr,
    "getattr": _getattr,
    "setattr": _setattr,
    "sum": _sum,
    "max": _extreme,
    "min": _extreme,
    "map": _map,
    "filter": _filter,
    "dict": _ordered,
    "vars": _vars,
    "type": _type,
    "float": _number,
    "int": _number,
    "str": _number,
    "bool": _number,
    "abs": lambda run, args, kwargs, frame, node: derive(run, "abs", args, frame.site(node)),
    "print": lambda run, args, kwargs, frame, node: NONE,
}

_FUNCTIONS: dict[str, Rule] = {
    "torch.no_grad": _no_grad(mode=False),
    "torch.inference_mode": _no_grad(mode=False),
    "torch.autograd.no_grad": _no_grad(mode=False),
    "torch.autograd.inference_mode": _no_grad(mode=False),
    "torch.enable_grad": _no_grad(mode=True),
    "torch.set_grad_enabled": _set_grad_enabled,
    "torch.autograd.set_grad_enabled": _set_grad_enabled,
    "torch.autograd.backward": _autograd_backward,
    "torch.autograd.grad": _autograd_grad,
    "torch.autocast": _nullcontext,
    "torch.amp.autocast": lambda run, args, kwargs, frame, node: Context(),
    "torch.compile": _same,
    "torch.jit.script": _same,
    "torch.jit.trace": _same,
    "torch.nn.utils.spectral_norm": _same,
    "torch.nn.utils.weight_norm": _same,
    "torch.nn.functional.embedding": lambda run, args, kwargs, frame, node: layer(
        run, units_of(args[1]) if len(args) > 1 else [], [], frame.site(node)
    ),
    "torch.func.functional_call": _lifted,
    "torch.func.grad": _lifted,
    "torch.func.vmap": _lifted,
    "torch.utils.checkpoint.checkpoint": lambda run, args, kwargs, frame, node: (
        calls.call(run, args[0], args[1:], {}, frame, node) if args else NONE
    ),
    "copy.deepcopy": _deepcopy,
    "copy.copy": _same,
    "dataclasses.field": _dataclass_field,
    "functools.partial": _partial,
    "functools.wraps": lambda run, args, kwargs, frame, node: Library("gradguard.<wraps>"),
    "gradguard.<wraps>": _first,
    "gradguard.<namedtuple>": _make_namedtuple,
    "itertools.chain": _chain,
    "itertools.chain.from_iterable": _chained,
    "itertools.islice": _slice_of,
    "itertools.cycle": _slice_of,
    "itertools.count": lambda run, args, kwargs, frame, node: Seq(
        run.fresh(),
        [],
        "iterator",
        run.data(frame.site(node), key=run.key("number", frame.site(node))),
    ),
    "itertools.zip_longest": _zip,
    "types.SimpleNamespace": _namespace,
    "argparse.Namespace": _namespace,
    "contextlib.nullcontext": _nullcontext,
    "contextlib.suppress": lambda run, args, kwargs, frame, node: Context(),
    "collections.OrderedDict": _ordered,
    "collections.defaultdict": _defaultdict,
    "collections.deque": _list("list"),
    "collections.namedtuple": _namedtuple,
    "typing.cast": lambda run, args, kwargs, frame, node: args[1] if len(args) > 1 else NONE,
    "tqdm.tqdm": _first,
    "tqdm.auto.tqdm": _first,
    "tqdm.trange": _range,
    "tqdm.auto.trange": _range,
}

"""What methods do that are not defined in the project."""

from __future__ import annotations

import ast

from gradguard.lint import attributes, calls, contract, events, labels, library, lightning, unknowns
from gradguard.lint.carry import carried, cut, derive, gather, layer, units_of
from gradguard.lint.iteration import elements
from gradguard.lint.opaque import opaque
from gradguard.lint.run import ClearAt, Frame, Run
from gradguard.lint.syntax import walk
from gradguard.lint.tables import INDEXED, REFERENCE
from gradguard.lint.values import (
    NONE,
    Class,
    Const,
    Context,
    Data,
    Dict,
    Function,
    Hidden,
    Instance,
    Optimizer,
    Parameters,
    Seq,
    Value,
    merged,
)

__all__ = ["call_method"]

Args = list[Value]
Kwargs = dict[str, Value]


def call_method(
    run: Run,
    receiver: Value,
    name: str,
    args: Args,
    kwargs: Kwargs,
    frame: Frame,
    node: ast.AST,
    func: Data | None = None,
) -> Value:
    """Call a method of a value."""
    first = args[0] if args else None
    if name == "step" and _optimizer_in(first) is not None:
        found = _optimizer_in(first)
        assert found is not None  # noqa: S101
        events.step(run, found, frame, node)
        return NONE
    if name == "detach" and not _is_tensor(receiver):
        run.note("detached no tensor", frame.site(node))
    match receiver:
        case Optimizer():
            return _of_optimizer(run, receiver, name, args, kwargs, frame, node)
        case Parameters():
            return _of_parameters(run, receiver, name, args, kwargs, frame, node)
        case Instance():
            return _of_instance(run, receiver, name, args, kwargs, frame, node)
        case Data():
            if name == "zero_" and receiver.operands and receiver.operands[0] == "grad":
                attributes.put(run, receiver.operands[1][0], "grad", NONE, frame, node)
            return _of_data(run, receiver, name, args, kwargs, frame, node, func)
        case Seq():
            return _of_sequence(run, receiver, name, args, kwargs, frame, node)
        case Dict():
            return _of_dict(run, receiver, name, args, kwargs, frame, node)
        case Class() if name == "apply":
            return _applied(run, receiver, args, kwargs, frame, node)
        case Const() if isinstance(receiver.value, str):
            return _of_text(run, receiver, name, args, frame, node)
        case _:
            return opaque(run, args, kwargs, frame.site(node), name)


def _is_tensor(value: Value) -> bool:
    """Say whether a value is known to be a tensor: what nobody knows may be a tuple of them."""
    return isinstance(value, Parameters) or (isinstance(value, Data) and not value.unknown)


def _applied(
    run: Run, receiver: Class, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST
) -> Value:
    """Apply a custom ``autograd.Function``."""
    have = gather(args)
    if not have.flow and have.cuts and _reverses(receiver):
        run.note("reverses nothing", frame.site(node), have.cuts)
    return library.tensor_function(run, "apply", args, kwargs, frame, node)


def _reverses(cls: Class) -> bool:
    """Say whether the backward of an ``autograd.Function`` turns gradient around."""
    method = cls.find("backward")
    return isinstance(method, Function) and any(
        (isinstance(inner, ast.UnaryOp) and isinstance(inner.op, ast.USub))
        or (isinstance(inner, ast.Attribute) and inner.attr in ("neg", "neg_"))
        for inner in walk(method.node)
    )


def _optimizer_in(value: Value | None) -> Optimizer | None:
    if isinstance(value, Optimizer):
        return value
    if isinstance(value, Instance):
        inner = value.attrs.get("<optimizer>")
        return inner if isinstance(inner, Optimizer) else None
    return None


def _of_optimizer(
    run: Run,
    receiver: Optimizer,
    name: str,
    args: Args,
    kwargs: Kwargs,
    frame: Frame,
    node: ast.AST,
) -> Value:
    match name:
        case "step":
            closure = args[0] if args else kwargs.get("closure")
            result: Value = NONE
            if isinstance(closure, Function):
                result = calls.call(run, closure, [], {}, frame, node)
            events.step(run, receiver, frame, node)
            return result
        case "zero_grad":
            events.clear(run, receiver.units, frame, node, receiver)
            return NONE
        case "add_param_group":
            if args:
                events.add_group(run, receiver, args[0], frame, node)
            return NONE
        case "backward" if args:
            return events.backward(run, args[:1], frame, node)
        case "state_dict" | "load_state_dict" | "train" | "eval":
            return run.data(frame.site(node))
        case "minimize":
            events.clear(run, receiver.units, frame, node, receiver)
            events.backward(run, args[:1], frame, node)
            events.step(run, receiver, frame, node)
            return NONE
        case _:
            if name not in ("param_groups", "register_step_post_hook", "zero"):
                receiver.escaped = True
            return run.data(frame.site(node))


_INPLACE = "_"


def _of_parameters(
    run: Run,
    receiver: Parameters,
    name: str,
    args: Args,
    kwargs: Kwargs,
    frame: Frame,
    node: ast.AST,
) -> Value:
    site = frame.site(node)
    given = [*args, *kwargs.values()]
    match name:
        case "requires_grad_":
            flag = args[0] if args else kwargs.get("requires_grad", Const(True))
            events.freeze(
                run, receiver.units, flag, site, part=receiver.part and not _bare(receiver)
            )
            return receiver
        case "items" if not receiver.one:
            return receiver.like(named=True, one=False)
        case "values" | "keys" | "copy" if not receiver.one:
            return receiver.like(named=False) if name != "keys" else run.data(site)
        case "zero_" if receiver.grads:
            run.events.append(ClearAt(receiver.units, site, None, not receiver.part))
            return receiver
        case "detach" | "detach_":
            if name == "detach_" and not receiver.values and not receiver.grads:
                part = receiver.part and not _bare(receiver)
                events.freeze(run, receiver.units, Const(False), site, part=part)
            return receiver.like(values=True)
        case "clone" | "cpu" | "cuda" | "to" | "float":
            return receiver if receiver.values else derive(run, "reshape", [receiver], site)
        case _ if receiver.values and not name.endswith(_INPLACE) and not receiver.one:
            return run.data(site)
        case _ if name.endswith(_INPLACE) and not name.endswith("__"):
            if not receiver.grads:
                events.write(run, receiver, given, site, mixed=name in _MIXES)
            return receiver
        case "backward":
            return NONE
        case "append" | "extend" | "insert" if receiver.group is not None and args:
            events.add_group(run, receiver.group, args[-1], frame, node)
            return NONE
        case "append" | "extend" | "update":
            return NONE
        case "pop" | "remove" | "clear" if receiver.group is not None:
            receiver.group.escaped = True
            return receiver.like(one=True, part=True)
        case _ if not receiver.one:
            return run.data(site)
        case _:
            value = derive(run, "reshape", [receiver], site)
            return library.tensor_function(run, name, [value, *args], kwargs, frame, node)


_MIXES = frozenset({"add_", "sub_", "lerp_", "addcmul_", "addcdiv_"})


def _bare(receiver: Parameters) -> bool:
    return bool(receiver.units) and all(unit.bare for unit in receiver.units)


_SELF = frozenset(
    [
        "train",
        "eval",
        "to",
        "cuda",
        "cpu",
        "half",
        "float",
        "double",
        "bfloat16",
        "type",
        "apply",
        "share_memory",
        "compile",
        "ipu",
        "xpu",
        "to_empty",
        "register_buffer",
    ]
)


_REGISTERED = ("name", "module", "param")


def _of_instance(
    run: Run, receiver: Instance, name: str, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST
) -> Value:
    site = frame.site(node)
    if receiver.lib == "GradScaler":
        return args[0] if name == "scale" and args else run.data(site)
    if receiver.lib.startswith("gradguard."):
        return contract.call_method(run, receiver, name, args, kwargs, frame, node)
    inner = receiver.attrs.get("<optimizer>")
    if isinstance(inner, Optimizer) and name in ("step", "zero_grad", "add_param_group"):
        return _of_optimizer(run, inner, name, args, kwargs, frame, node)
    distribution = receiver.attrs.get("<distribution>")
    if isinstance(distribution, Data) and name != "__init__":
        return _of_data(run, distribution, name, args, kwargs, frame, node, None)
    if name in ("backward", "manual_backward") and args:
        return events.backward(run, args[:1], frame, node)
    if name == "__init__":
        library.derived(run, receiver, args, kwargs, frame, node)
        return NONE
    if name == "forward" or (name == "__call__" and receiver.module):
        own = name == "forward"
        return calls.call_model(run, receiver, args, kwargs, frame, node, own_call=own)
    if receiver.cls is not None and name in (
        "optimizers",
        "toggle_optimizer",
        "untoggle_optimizer",
    ):
        return lightning.call_method(run, receiver, name, args, frame, node)
    distribution = receiver.attrs.get("<distribution>")
    if isinstance(distribution, Data):
        return _of_data(run, distribution, name, args, kwargs, frame, node, None)
    if not receiver.module:
        if receiver.cls is not None and receiver.open:
            return opaque(run, args, kwargs, site, name)
        return opaque(run, [*receiver.attrs.values(), *args], kwargs, site, name)
    return _of_module(run, receiver, name, args, kwargs, frame, node)


def _of_module(
    run: Run, receiver: Instance, name: str, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST
) -> Value:
    site = frame.site(node)
    match name:
        case "parameters" | "named_parameters":
            found = Parameters(units_of(receiver), once=True, named=name != "parameters")
            found.source, found.made = receiver, site
            return found
        case "buffers" | "named_buffers":
            return Seq(run.fresh(), [], "iterator")
        case "state_dict":
            return Parameters(units_of(receiver), values=True, named=True)
        case "load_state_dict":
            target = Parameters(units_of(receiver), values=True)
            if args:
                events.write(run, target, args[:1], site)
            return NONE
        case "zero_grad":
            events.clear(run, units_of(receiver), frame, node)
            return NONE
        case "requires_grad_":
            flag = args[0] if args else kwargs.get("requires_grad", Const(True))
            events.freeze(run, units_of(receiver), flag, site)
            return receiver
        case "register_parameter" | "add_module" | "register_module" if args or kwargs:
            named, *rest = [*args, *(kwargs[one] for one in _REGISTERED if one in kwargs)]
            # Of a name that is put together only its being another each time is known.
            own = named.value if isinstance(named, Const) else f"[{len(receiver.attrs)}]"
            for value in rest[:1]:
                attributes.put(run, receiver, str(own), value, frame, node)
            return NONE
        case "register_buffer":
            if args and isinstance(args[0], Const):
                value = args[1] if len(args) > 1 else NONE
                receiver.attrs[str(args[0].value)] = value
            return NONE
        case "modules" | "named_modules" | "children" | "named_children":
            return _children(run, receiver, name, site)
        case "freeze" | "freeze_parameters" | "freeze_params" | "unfreeze" if (
            receiver.unit is not None
        ):
            flag = Const(name == "unfreeze")
            events.freeze(run, units_of(receiver), flag, site)
            return receiver
        case "eval":
            run.note("eval", site, receiver)
            return receiver
        case _ if name in _SELF:
            return receiver
        case _ if name.startswith("register_"):
            for unit in units_of(receiver):
                unit.escaped = True
            return run.data(site)
        case _:
            return _of_container(run, receiver, name, args, kwargs, frame, node)


def _children(run: Run, receiver: Instance, name: str, site: object) -> Value:
    found = _parts(receiver)
    if "modules" in name:
        found = [("", receiver), *found]
        for prefix, part in found:
            # The list grows while it is walked: parts of parts are modules, too.
            found += [
                (f"{prefix}.{own}" if prefix else own, one)
                for own, one in _parts(part)
                if not any(one is known for _, known in found)
            ]
            if len(found) > _MOST_MODULES:
                break
    items: Args = [part for _, part in found]
    if name.startswith("named"):
        items = [Seq(run.fresh(), [Const(own), part], "tuple") for own, part in found]
    return Seq(run.fresh(), items, "iterator")


_MOST_MODULES = 64


def _parts(receiver: Instance) -> list[tuple[str, Instance]]:
    """Return the children of a module, by the names that it knows them by."""
    named: list[tuple[object, Value]] = list(receiver.attrs.items())
    if isinstance(receiver.items, Seq):
        named += list(enumerate(receiver.items.items))
    elif isinstance(receiver.items, Dict):
        named += list(receiver.items.items.items())
    return [(str(name), part) for name, part in named if isinstance(part, Instance) and part.module]


def _of_container(
    run: Run, receiver: Instance, name: str, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST
) -> Value:
    site = frame.site(node)
    items = receiver.items
    if isinstance(items, Dict) and name in ("values", "items", "keys", "update", "pop"):
        return _of_dict(run, items, name, args, kwargs, frame, node)
    if isinstance(items, Seq) and name in ("append", "extend", "insert", "pop"):
        for arg in args:
            labels.label(arg, f"[{len(items.items)}]", receiver)
        return _of_sequence(run, items, name, args, kwargs, frame, node)
    if receiver.wrapped is not None and isinstance(receiver.wrapped, Instance):
        func = attributes.get(run, receiver.wrapped, name, frame, node)
        return calls.call(run, func, args, kwargs, frame, node)
    if receiver.cls is not None:
        made = opaque(run, [*args], kwargs, site, name)
        made.hidden = Hidden.SWALLOWED
        return made
    made = layer(run, units_of(receiver), [*args, *kwargs.values()], site)
    made.unknown = True
    return made


_LEAVES = frozenset({"step", "update", "zero_grad"})


def _of_data(
    run: Run,
    receiver: Data,
    name: str,
    args: Args,
    kwargs: Kwargs,
    frame: Frame,
    node: ast.AST,
    func: Data | None,
) -> Value:
    site = frame.site(node)
    first = args[0] if args else None
    if receiver.unknown:
        if name == "step" and (args or kwargs):
            run.witness(receiver.key, "step with arguments")
        else:
            run.witness(receiver.key, name)
    match name:
        case "backward" | "manual_backward":
            return _backward(run, receiver, args, kwargs, frame, node)
        case "detach" | "detach_":
            made = cut(run, receiver, site, "detach")
            if name == "detach_":
                receiver.cuts, receiver.flow = made.cuts, {}
            made.key = receiver.key if receiver.unknown and not receiver.flow else made.key
            made.terms = ()
            return made
        case "requires_grad_":
            flag = args[0] if args else kwargs.get("requires_grad", Const(True))
            events.require_gradient(run, receiver, flag, site)
            return receiver
        case "scale" if isinstance(first, Data) and receiver.unknown:
            return first
        case "prepare" | "setup" | "setup_module" | "setup_optimizers" | "prepare_model" if (
            args and (receiver.unknown)
        ):
            return args[0] if len(args) == 1 else Seq(run.fresh(), args, "tuple")
        case "unwrap" | "unwrap_model" if args and receiver.unknown:
            return args[0]
        case "parameters" | "named_parameters" if receiver.unknown:
            return Parameters((), once=True, named=name != "parameters", complete=False)
        case "unscale_" | "update" | "clip_grad_norm_" if receiver.unknown:
            return NONE
        case "no_sync" | "accumulate" | "autocast" if receiver.unknown:
            return Context()
        case "sample" if "distribution" in receiver.tags or (receiver.unknown and receiver.flow):
            return cut(run, receiver, site, "sample")
        case "sample" | "sample_n" if receiver.flow:
            return cut(run, receiver, site, "sample")
        case "rsample":
            return derive(run, "rsample", [receiver], site)
        case "log_prob":
            made = derive(run, "log_prob", [receiver, *args], site)
            made.tags = frozenset({"logp"})
            return made
        case _:
            pass
    if receiver.unknown and not receiver.flow:
        return _of_unknown(run, receiver, name, args, kwargs, frame, node, func)
    if name in REFERENCE:
        made = derive(run, "reshape", [receiver], site)
        made.name = receiver.name
        return made
    if name in INDEXED:
        made = derive(run, "index", [receiver], site)
        made.tags = receiver.tags
        return made
    if name.endswith("_") and not name.endswith("__"):
        have = gather([*args, *kwargs.values()])
        if run.grad:
            receiver.flow = merged([receiver.flow, have.flow])
            receiver.cuts = {**receiver.cuts, **have.cuts}
        return receiver
    if name == "register_hook":
        return NONE
    made_value = library.tensor_function(run, name, [receiver, *args], kwargs, frame, node)
    if isinstance(made_value, Data) and receiver.unknown:
        made_value.unknown = True
        if made_value.flow:
            made_value.flow = {u: a._replace(sure=a.sure) for u, a in made_value.flow.items()}
    return made_value


def _backward(
    run: Run, receiver: Data, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST
) -> Value:
    first = args[0] if args else kwargs.get("loss")
    text = _receiver_text(node)
    if (
        isinstance(first, Data)
        and not receiver.flow
        and not receiver.cuts
        and (first.flow or first.cuts or receiver.unknown)
    ):
        return events.backward(run, [first], frame, node)
    if isinstance(first, Seq) and not receiver.flow:
        return events.backward(run, first.items, frame, node)
    return events.backward(run, [receiver], frame, node, into=kwargs.get("inputs"), text=text)


def _receiver_text(node: ast.AST) -> str:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return ast.unparse(node.func.value)[:60]
    return ""


def _of_unknown(
    run: Run,
    receiver: Data,
    name: str,
    args: Args,
    kwargs: Kwargs,
    frame: Frame,
    node: ast.AST,
    func: Data | None,
) -> Value:
    """Call a method of something of which nothing is known."""
    site = frame.site(node)
    if name in ("to", "cuda", "cpu", "float", "train", "eval", "requires_grad_", "double", "half"):
        return receiver
    key = run.key("method", receiver.key, name, site, tuple(run.stack))
    if func is not None and func.unknown:
        run.witness(func.key, "called")
    made = opaque(run, args, kwargs, site, name)
    made.key = key
    if not made.flow and not made.cuts:
        shaped = events.optimizer_by_shape(run, made, func or receiver, args, kwargs, site)
        if shaped is not made:
            return shaped
        value = unknowns.unknown(run, key, (), site)
        if isinstance(value, Data):
            value.hidden = max(value.hidden, made.hidden)
        return value
    return events.optimizer_by_shape(run, made, func or receiver, args, kwargs, site)


def _store(value: Value, depth: int = 2) -> None:
    """Mark what is put away for later, with the graph that it carries."""
    match value:
        case Data() if value.flow:
            value.tags |= {"stored"}
        case Seq() if depth:
            for item in value.items:
                _store(item, depth - 1)
        case Dict() if depth:
            for item in value.items.values():
                _store(item, depth - 1)
        case Instance() if depth and not value.module:
            for item in value.attrs.values():
                _store(item, depth - 1)
        case _:
            return


def _of_sequence(
    run: Run, receiver: Seq, name: str, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST
) -> Value:
    site = frame.site(node)
    first = args[0] if args else NONE
    match name:
        case "append" | "add" | "appendleft":
            _store(first)
            if run.loops and run.loops[-1] == -1 and len(receiver.items) >= 2:
                receiver.rest = first
            else:
                receiver.items.append(first)
            receiver.key = run.fresh()
            return NONE
        case "extend":
            if isinstance(first, Parameters):
                receiver.items.append(first.like())
                return NONE
            found, rest = elements(run, first, frame, node)
            receiver.items += found
            receiver.rest = rest if rest is not None else receiver.rest
            return NONE
        case "insert" if len(args) > 1:
            receiver.items.insert(0, args[1])
            return NONE
        case "pop" | "popleft":
            if receiver.items:
                last = receiver.items[-1]
                if receiver.closed and not run.loops:
                    receiver.items.pop()
                return last
            return receiver.rest if receiver.rest is not None else run.data(site)
        case "clear":
            receiver.items.clear()
            receiver.rest = None
            return NONE
        case "copy":
            return Seq(run.fresh(), receiver.items, receiver.kind, receiver.rest)
        case "values" if receiver.items:
            return receiver.items[0]
        case _:
            have = carried(receiver)
            made = run.data(site, have.flow, have.hidden)
            made.cuts = have.cuts
            return made


def _of_dict(
    run: Run, receiver: Dict, name: str, args: Args, kwargs: Kwargs, frame: Frame, node: ast.AST
) -> Value:
    site = frame.site(node)
    first = args[0] if args else NONE
    match name:
        case "items":
            pairs: Args = [
                Seq(run.fresh(), [Const(key), value], "tuple")
                for key, value in receiver.items.items()
            ]
            rest = None
            if receiver.rest is not None:
                rest = Seq(run.fresh(), [run.data(site), receiver.rest], "tuple")
            return Seq(run.fresh(), pairs, "iterator", rest)
        case "values":
            return Seq(run.fresh(), list(receiver.items.values()), "iterator", receiver.rest)
        case "keys":
            rest_key = run.data(site) if receiver.rest is not None else None
            return Seq(run.fresh(), [Const(key) for key in receiver.items], "iterator", rest_key)
        case "get" | "pop" | "setdefault":
            if isinstance(first, Const) and first.value in receiver.items:
                return receiver.items[first.value]
            default = args[1] if len(args) > 1 else NONE
            if name == "setdefault" and isinstance(first, Const):
                receiver.items[first.value] = default
            if receiver.rest is not None:
                return receiver.rest
            if not isinstance(first, Const):
                # A registry that other files fill: what it gives is known by where it is asked.
                if receiver.items:
                    return next(iter(receiver.items.values()))
                key = run.key("entry", site, tuple(run.stack))
                return unknowns.unknown(run, key, (), site)
            return default
        case "update":
            if isinstance(first, Dict):
                receiver.items.update(first.items)
                receiver.rest = first.rest or receiver.rest
            elif args:
                receiver.rest = first
            receiver.items.update(kwargs)
            return NONE
        case "copy":
            return Dict(run.fresh(), receiver.items, receiver.rest)
        case "clear":
            receiver.items.clear()
            return NONE
        case _:
            have = carried(receiver)
            return run.data(site, have.flow, have.hidden)


def _of_text(
    run: Run, receiver: Const, name: str, args: Args, frame: Frame, node: ast.AST
) -> Value:
    text = str(receiver.value)
    if all(isinstance(arg, Const) for arg in args):
        plain = [arg.value for arg in args if isinstance(arg, Const)]
        if name in (
            "lower",
            "upper",
            "strip",
            "startswith",
            "endswith",
            "replace",
            "format",
            "title",
        ):
            try:
                return Const(getattr(text, name)(*plain))
            except (TypeError, ValueError, IndexError, KeyError):
                pass
        if name == "split":
            try:
                return Seq(run.fresh(), [Const(part) for part in text.split(*plain)])  # type: ignore[arg-type]
            except (TypeError, ValueError):
                pass
    return run.data(
        frame.site(node), key=run.key("text", receiver.key, name, *(a.key for a in args))
    )

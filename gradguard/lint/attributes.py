"""What attributes stand for, and what unknown values are taken for."""

from __future__ import annotations

import ast

from gradguard.lint import calls, labels, names, unknowns
from gradguard.lint.carry import cut
from gradguard.lint.run import Frame, Run
from gradguard.lint.values import (
    Bound,
    Class,
    Const,
    Data,
    Dict,
    Function,
    Instance,
    Library,
    Namespace,
    Optimizer,
    Parameters,
    Partial,
    Seq,
    Super,
    Value,
)

__all__ = ["child", "get", "put"]

_PLAIN = frozenset(
    [
        "shape",
        "dtype",
        "device",
        "ndim",
        "is_cuda",
        "is_leaf",
        "requires_grad",
        "layout",
        "grad_fn",
        "names",
        "version",
        "in_features",
        "out_features",
        "num_embeddings",
        "embedding_dim",
        "training",
    ]
)
_INDICES = frozenset({"indices"})


def child(run: Run, value: Instance, part: str) -> Value:
    """Return a part of a layer or an opaque model: it shares its parameters."""
    known = value.attrs.get(part)
    if known is not None:
        return known
    key = run.key("child", value.key, part)
    made = Instance(key, lib=value.lib)
    made.module, made.open, made.unit = True, value.open, value.unit
    made.path = (*value.path, part)
    value.attrs[part] = made
    return made


def get(run: Run, value: Value, name: str, frame: Frame, node: ast.AST) -> Value:
    """Return an attribute of a value."""
    match value:
        case Library():
            return Library(f"{value.name}.{name}")
        case Namespace():
            return _member(run, value, name)
        case Instance():
            return _of_instance(run, value, name, frame, node)
        case Data():
            return _of_data(run, value, name, frame, node)
        case Parameters():
            return _of_parameters(run, value, name, frame, node)
        case Optimizer():
            return _of_optimizer(run, value, name, frame, node)
        case Class():
            return _of_class(run, value, name, frame, node)
        case Super():
            return _of_super(run, value, name, frame, node)
        case Seq(kind="tuple", items=[first, second]) if name in ("values", "indices"):
            # What `max(dim)` returns: a named tuple.
            return first if name == "values" else second
        case Partial(func=Library(name="gradguard.<namedtuple>")) if name == "_fields":
            fields = value.args[0]
            assert isinstance(fields, Const) and isinstance(fields.value, tuple)  # noqa: S101, PT018
            return Seq(run.fresh(), [Const(field) for field in fields.value], "tuple")
        case _:
            return Bound(value, name)


def _member(run: Run, value: Namespace, name: str) -> Value:
    found = names.member(run, value.file, name)
    if found is not None:
        return found
    folder = value.file.path.parent
    if value.file.path.name == "__init__.py":
        inner = run.project.imported(value.file, name, 1)
        if inner is not None:
            return Namespace(inner)
    return Library(f"{folder.name}.{name}")


def _bound(run: Run, function: Function, value: Value, frame: Frame, node: ast.AST) -> Value:
    if function.kind == "static":
        return function
    if function.kind == "class":
        return function.bind(value.cls if isinstance(value, Instance) and value.cls else value)
    bound = function.bind(value)
    if function.kind == "property":
        return calls.call(run, bound, [], {}, frame, node)
    return bound


def _of_instance(run: Run, value: Instance, name: str, frame: Frame, node: ast.AST) -> Value:
    found = value.attrs.get(name)
    if found is not None:
        return found
    if value.cls is not None:
        found = value.cls.find(name)
        if isinstance(found, Function):
            return _bound(run, found, value, frame, node)
        if found is not None:
            return found
    if name == "__class__" and value.cls is not None:
        return value.cls
    if name == "__dict__":
        return Dict(run.fresh(), dict(value.attrs))
    if value.wrapped is not None:
        if name in ("module", "_orig_mod", "model", "wrapped"):
            return value.wrapped
        if name not in _MODULE_METHODS:
            return get(run, value.wrapped, name, frame, node)
    if value.module and name in _MODULE_METHODS:
        return Bound(value, name)
    if isinstance(value.items, Dict) and name in value.items.items:
        return value.items.items[name]
    if value.module and name == "training":
        return Const(True)
    if value.unit is not None and name in ("weight", "bias"):
        return Parameters([value.unit], one=True, part=True)
    if value.lib and value.cls is None and not value.module:
        return Bound(value, name)
    if name in _PLAIN:
        return run.data(frame.site(node), key=run.key("plain", value.key, name))
    getter = value.cls.find("__getattr__") if value.cls is not None else None
    if isinstance(getter, Function) and not value.module:
        return calls.call(run, getter.bind(value), [Const(name)], {}, frame, node)
    if value.cls is not None and value.cls.lib and name in _FRAMEWORK_METHODS:
        return Bound(value, name)
    if value.lib == "opaque" or (value.unit is not None and value.cls is None):
        return _of_opaque(run, value, name, frame, node)
    distribution = value.attrs.get("<distribution>")
    if isinstance(distribution, Data) and name not in _DISTRIBUTION_METHODS:
        return get(run, distribution, name, frame, node)
    made = unknowns.unknown_part(run, value, name, frame, node)
    if isinstance(made, Data) and value.cls is not None:
        made.operands = ("attribute", (value, Const(name)))
    return made


def _of_opaque(run: Run, value: Instance, name: str, frame: Frame, node: ast.AST) -> Value:
    if name in ("module", "_orig_mod"):
        return value
    made = unknowns.unknown_part(run, value, name, frame, node)
    if isinstance(made, Instance):
        # A part of a model that was passed in: related to it, and a model of its own.
        value.attrs.setdefault(name, made)
    elif isinstance(made, Data):
        made.operands = ("attribute", (value, Const(name)))
    return made


def _of_data(run: Run, value: Data, name: str, frame: Frame, node: ast.AST) -> Value:
    found = value.attrs.get(name)
    if found is not None:
        return found
    if name == "data":
        return cut(run, value, frame.site(node), ".data")
    if name in _PLAIN or (name in _INDICES and not value.unknown):
        return run.data(frame.site(node), key=run.key("plain", value.key, name))
    if name == "grad":
        for unit in value.flow:
            if unit.tensor:
                run.note("gradient read", frame.site(node), unit)
        made = run.data(frame.site(node), key=run.key("grad", value.key))
        made.operands = ("grad", (value,))
        return made
    if value.unknown:
        if name == "param_groups":
            run.witness(value.key, name)
        key = run.key("part", value.key, name)
        inner = unknowns.inside(run, value, key, name, frame, node)
    else:
        inner = Data(run.key("part", value.key, name), value.flow, value.hidden, frame.site(node))
        inner.cuts, inner.tags = value.cuts, value.tags
    if isinstance(inner, Data):
        inner.operands = ("attribute", (value, Const(name)))
    return inner


def _of_parameters(run: Run, value: Parameters, name: str, frame: Frame, node: ast.AST) -> Value:
    if name == "data":
        return value.like(values=True)
    if name == "grad":
        return value.like(grads=True)
    if name == "requires_grad":
        states = {unit.frozen for unit in value.units}
        if states in ({True}, {False}):
            return Const(states == {False})
    if name in _PLAIN:
        key = run.key("plain", value.key, name)
        return run.data(frame.site(node), key=key)
    return Bound(value, name)


def _of_optimizer(run: Run, value: Optimizer, name: str, frame: Frame, node: ast.AST) -> Value:
    found = value.attrs.get(name)
    if found is not None:
        return found
    if name == "param_groups":
        params = Parameters(value.units, complete=value.complete)
        params.group = value
        group = Dict(run.fresh(), {"params": params})
        group.rest = run.data(frame.site(node))
        return Seq(run.fresh(), [group], "list", None)
    if name in ("optimizer", "_optimizer", "optim"):
        return value
    if name in ("state", "defaults", "_step_count"):
        return run.data(frame.site(node), key=run.key("part", value.key, name))
    return Bound(value, name)


def _of_class(run: Run, value: Class, name: str, frame: Frame, node: ast.AST) -> Value:
    found = value.find(name)
    if isinstance(found, Function):
        return found.bind(value) if found.kind == "class" else found
    if found is not None:
        return found
    if name == "__name__":
        return Const(value.name)
    if name == "apply" and value.lib.startswith("torch.autograd.Function"):
        return Bound(value, name)
    return Library(f"{value.lib or 'unknown'}.{name}")


def _of_super(run: Run, value: Super, name: str, frame: Frame, node: ast.AST) -> Value:
    cls = value.receiver.cls if isinstance(value.receiver, Instance) else value.receiver
    found = cls.find(name, after=value.after) if isinstance(cls, Class) else None
    if isinstance(found, Function):
        return _bound(run, found, value.receiver, frame, node)
    if found is not None:
        return found
    return Bound(value.receiver, name)


def put(run: Run, holder: Value, name: str, value: Value, frame: Frame, node: ast.AST) -> None:
    """Set an attribute."""
    site = frame.site(node)
    match holder:
        case Instance():
            setter = holder.cls.find(f"{name}.setter") if holder.cls is not None else None
            if isinstance(setter, Function):
                calls.call(run, setter.bind(holder), [value], {}, frame, node)
                return
            if not (holder.unit is not None and _thaws(holder, value)):
                labels.label(value, name, holder)
            if isinstance(value, Data) and value.unknown and not value.path:
                run.evidence.names.setdefault(value.key, (*(holder.path or ("self",)), name))
            if isinstance(value, Instance) and holder.module and value.parent is None:
                value.parent = holder
            if holder.module and name == "requires_grad":
                run.note("freeze attribute", site, holder, name)
            if holder.wrapped is not None and name not in holder.attrs:
                put(run, holder.wrapped, name, value, frame, node)
                return
            if holder.unit is not None and name in ("weight", "bias") and _thaws(holder, value):
                run.note("freeze overwritten", site, holder.unit)
                holder.unit.frozen = False
                return
            if holder.unit is not None and name == "weight" and _tied(value):
                assert isinstance(value, Parameters)  # noqa: S101
                holder.unit = value.units[0]
                return
            holder.attrs[name] = value
        case Parameters():
            calls.set_on_parameters(run, holder, name, value, site)
        case Data():
            if name == "grad":
                if holder.unknown and not holder.flow:
                    run.note("unknown gradient set", site, holder)
                if isinstance(value, Const):
                    return
            if name == "requires_grad":
                calls.require_gradient(run, holder, value, site)
                return
            if name == "data":
                return
            holder.attrs[name] = value
            if holder.unknown and not isinstance(value, Data | Const):
                labels.label(value, name, None)
        case Optimizer():
            holder.attrs[name] = value
        case Class():
            holder.attrs[name] = value
        case Namespace():
            names.global_scope(run, holder.file).names[name] = value
        case _:
            return


def _thaws(holder: Instance, value: Value) -> bool:
    """Say whether a frozen layer is given a new parameter, which requires gradient."""
    return (
        holder.unit is not None
        and holder.unit.frozen is True
        and not holder.unit.holders
        and isinstance(value, Parameters)
        and value.one
        and all(unit.bare and unit.frozen is False and not unit.path for unit in value.units)
    )


def _tied(value: Value) -> bool:
    """Say whether a layer is given the weight of another."""
    return isinstance(value, Parameters) and value.one and len(value.units) == 1


_MODULE_METHODS = frozenset(
    [
        "parameters",
        "named_parameters",
        "modules",
        "named_modules",
        "children",
        "named_children",
        "buffers",
        "named_buffers",
        "state_dict",
        "load_state_dict",
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
        "zero_grad",
        "requires_grad_",
        "apply",
        "register_buffer",
        "register_parameter",
        "add_module",
        "register_module",
        "forward",
        "__call__",
        "share_memory",
        "compile",
        "get_submodule",
        "get_parameter",
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "append",
        "extend",
        "insert",
        "values",
        "items",
        "keys",
        "update",
        "pop",
        "ipu",
        "xpu",
        "to_empty",
    ]
)
_DISTRIBUTION_METHODS = frozenset(
    ["sample", "sample_n", "rsample", "log_prob", "entropy", "cdf", "icdf", "expand", "perplexity"]
)
_FRAMEWORK_METHODS = frozenset(
    [
        "manual_backward",
        "optimizers",
        "toggle_optimizer",
        "untoggle_optimizer",
        "log",
        "log_dict",
        "lr_schedulers",
        "save_hyperparameters",
        "clip_gradients",
        "print",
        "all_gather",
    ]
)

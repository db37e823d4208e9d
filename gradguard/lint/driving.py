"""Code driven as its users would: functions called, objects made and trained with."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping

from gradguard.lint import calls, labels, lightning, names
from gradguard.lint.arguments import arguments_of
from gradguard.lint.building import build
from gradguard.lint.project import SourceFile
from gradguard.lint.run import Frame, Run
from gradguard.lint.syntax import walk
from gradguard.lint.values import (
    Class,
    Function,
    Instance,
    Seq,
    Value,
)

__all__ = ["DOORS", "drive_class", "drive_function"]

DOORS = frozenset({"backward", "manual_backward", "minimize"})
"""Methods that run a loss backward."""


def drive_function(run: Run, file: SourceFile, name: str) -> None:
    """Call a function with unknown arguments, and what it returns if that is a function."""
    function = names.member(run, file, name)
    frame = Frame(file, names.global_scope(run, file))
    if not isinstance(function, Function):
        return
    args, kwargs = arguments_of(run, function, frame)
    made = calls.call(run, function, args, kwargs, frame, function.node)
    if function.name.startswith(("train", "step", "update", "learn", "optimi")):
        run.restart()
        calls.call(run, function, args, kwargs, frame, function.node)
    for result in made.items if isinstance(made, Seq) else [made]:
        if isinstance(result, Function) and result.node is not function.node:
            inner_args, inner_kwargs = arguments_of(run, result, frame)
            for _ in range(2):
                calls.call(run, result, inner_args, inner_kwargs, frame, result.node)
                run.restart()


def drive_class(run: Run, file: SourceFile, name: str, *, thorough: bool) -> None:
    """Make an object of a class and train with it, as its users would.

    Args:
        run: The execution.
        file: Where the class is.
        name: What it is called.
        thorough: True to enter also those training methods that the others do not get to.
    """
    cls = names.member(run, file, name)
    frame = Frame(file, names.global_scope(run, file))
    if not isinstance(cls, Class):
        return
    run.driven = cls
    methods = _methods(cls)
    training = _training(methods)
    if not training and "training_step" not in methods:
        return
    made = build(run, cls, frame)
    if not isinstance(made, Instance):
        return
    labels.move(made, ("self",))
    if lightning.automatic(run, made, methods, frame):
        lightning.fit(run, made, methods, frame, _driver(run, made, frame))
        return
    called = set().union(*(_self_calls(function) for function in methods.values()))
    for method, function in methods.items():
        if method not in called and method not in training and _prepares(function):
            _call_driven(run, made, function, frame)
    stored = _stored(cls, methods)
    inner = {
        name for name in training if name in stored or _called_by_training(name, methods, training)
    }
    roots = [name for name in training if name not in inner] or list(training)
    hooks = [
        name
        for name, function in methods.items()
        if name not in called and name not in training and _averages(name, function)
    ]
    for turn in range(2):
        if turn:
            run.restart()
        for root in roots:
            _call_driven(run, made, methods[root], frame)
        # What a root leads to only under conditions that do not hold is entered by itself.
        left = {name: methods[name] for name in training} if thorough else {}
        while left := {n: one for n, one in left.items() if id(one.node) not in run.entered}:
            root = min(
                left, key=lambda name: (name in stored, _called_by_training(name, left, left))
            )
            roots.append(root)
            _call_driven(run, made, left.pop(root), frame)
        for root in hooks:
            _call_driven(run, made, methods[root], frame)


def _call_driven(run: Run, made: Instance, function: Function, frame: Frame) -> None:
    if function.kind not in ("static", "class", "property"):
        _driver(run, made, frame)(function, {})


def _driver(
    run: Run, made: Instance, frame: Frame
) -> Callable[[Function, Mapping[str, Value]], Value]:
    """Return what calls a method of an object, with arguments by name and others unknown."""

    def drive(function: Function, given: Mapping[str, Value]) -> Value:
        bound = function.bind(made)
        args, kwargs = arguments_of(run, bound, frame)
        parameters = [*function.node.args.posonlyargs, *function.node.args.args][1:]
        args = [given.get(p.arg, arg) for p, arg in zip(parameters, args, strict=True)]
        kwargs |= {name: value for name, value in given.items() if name in kwargs}
        return calls.call(run, bound, args, kwargs, frame, function.node)

    return drive


def _stored(cls: Class, methods: Mapping[str, Function]) -> set[str]:
    """Return the methods that others call by an attribute in which a constructor stores them."""
    called = {
        node.func.attr
        for function in methods.values()
        for node in walk(function.node)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
    }
    found: set[str] = set()
    for ancestor in cls.ancestors():
        constructor = ancestor.attrs.get("__init__")
        if not isinstance(constructor, Function):
            continue
        for node in walk(constructor.node):
            if isinstance(node, ast.Assign) and any(
                isinstance(target, ast.Attribute) and target.attr in called - set(methods)
                for target in node.targets
            ):
                found |= {
                    inner.attr
                    for inner in walk(node.value)
                    if isinstance(inner, ast.Attribute) and inner.attr in methods
                }
    return found


def _methods(cls: Class) -> dict[str, Function]:
    found: dict[str, Function] = {}
    for ancestor in cls.ancestors():
        for name, value in ancestor.attrs.items():
            # A setter is run by what is assigned, not by somebody who calls it.
            if isinstance(value, Function) and name.isidentifier():
                found.setdefault(name, value)
    return found


def _self_calls(function: Function) -> set[str]:
    known = getattr(function.node, "_self_calls", None)
    if known is None:
        known = {
            inner.attr
            for inner in walk(function.node)
            if isinstance(inner, ast.Attribute)
            and isinstance(inner.value, ast.Name)
            and inner.value.id in ("self", "super")
        }
        for inner in walk(function.node):
            if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Call):
                if isinstance(inner.value.func, ast.Name) and inner.value.func.id == "super":
                    known.add(inner.attr)
        function.node._self_calls = known  # type: ignore[union-attr]  # noqa: SLF001
    return set(known)


def _has_door(function: Function) -> bool:
    known: bool | None = getattr(function.node, "_has_door", None)
    if known is None:
        known = any(map(_trains_here, walk(function.node)))
        function.node._has_door = known  # type: ignore[union-attr]  # noqa: SLF001
    return known


def _trains_here(node: ast.AST) -> bool:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    return node.func.attr in DOORS or (
        node.func.attr == "step"
        and isinstance(node.func.value, ast.Name | ast.Attribute | ast.Subscript)
        and "opt" in ast.unparse(node.func.value).lower()
    )


def _training(methods: Mapping[str, Function]) -> dict[str, None]:
    """Return the methods that run something backward, themselves or through others."""
    found = {name for name, function in methods.items() if _has_door(function)}
    while True:
        more = {
            name
            for name, function in methods.items()
            if name not in found and name != "__init__" and _self_calls(function) & found
        }
        if not more:
            break
        found |= more
    found.discard("__init__")
    return dict.fromkeys(name for name in methods if name in found)


def _called_by_training(
    name: str, methods: Mapping[str, Function], training: Iterable[str]
) -> bool:
    return any(other != name and name in _self_calls(methods[other]) for other in training)


def _prepares(function: Function) -> bool:
    """Say whether a method builds models or optimizers that the constructor has left out."""
    text_names = {
        inner.attr if isinstance(inner, ast.Attribute) else getattr(inner, "id", "")
        for inner in walk(function.node)
        if isinstance(inner, ast.Attribute | ast.Name)
    }
    if function.name.startswith("__") or not any("optim" in name.lower() for name in text_names):
        return False
    return any(
        isinstance(inner, ast.Attribute)
        and isinstance(inner.ctx, ast.Store)
        and isinstance(inner.value, ast.Name)
        and inner.value.id == "self"
        for inner in walk(function.node)
    )


_AVERAGING = ("update", "ema", "momentum", "soft", "sync", "target", "polyak", "average")


def _averages(name: str, function: Function) -> bool:
    if not any(word in name.lower() for word in _AVERAGING):
        return False
    return any(
        isinstance(inner, ast.Attribute)
        and inner.attr in ("parameters", "state_dict", "load_state_dict", "named_parameters")
        for inner in walk(function.node)
    )

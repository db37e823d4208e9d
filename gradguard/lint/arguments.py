"""What the parameters of entries stand for, as far as defaults and annotations tell."""

from __future__ import annotations

import ast
from collections.abc import Hashable

from gradguard.lint import calls, expressions, families, unknowns
from gradguard.lint.run import Frame, Run
from gradguard.lint.values import Class, Const, Function, Instance, Library, Scope, Value

__all__ = ["arguments_of", "construct"]


def _argument(run: Run, function: Function, arg: ast.arg, frame: Frame) -> Value:
    """Return what an entry's parameter stands for."""
    key = run.key("argument", function.key, arg.arg)
    default = function.defaults.get(arg.arg)
    if isinstance(default, Const) and not (
        default.value is None or isinstance(default.value, bool)
    ):
        return default
    if default is not None and not isinstance(default, Const):
        return default
    hint = default if isinstance(default, Const) else None
    optional = hint is not None and hint.value is None
    typed = _typed(run, function, arg, key, frame, optional=optional)
    if typed is not None:
        return typed
    site = frame.site(arg)
    return unknowns.unknown(run, key, (arg.arg,), site, hint)


def _typed(
    run: Run, function: Function, arg: ast.arg, key: Hashable, frame: Frame, *, optional: bool
) -> Value | None:
    """Make a value of the type that a parameter is annotated with, where that tells something."""
    known = run.unknowns.get(key)
    if known is not None:
        return known
    if arg.annotation is None:
        return None
    annotation: ast.expr = arg.annotation
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            annotation = ast.parse(annotation.value, mode="eval").body
        except (SyntaxError, ValueError):
            return None
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value).endswith("Optional"):
        annotation = annotation.slice
    if isinstance(annotation, ast.BinOp):
        annotation = annotation.left
    if not isinstance(annotation, ast.Name | ast.Attribute):
        return None
    inner = Frame(function.file, function.scope or Scope())
    cls = expressions.evaluate(run, annotation, inner)
    if isinstance(cls, Library):
        short = cls.name.rpartition(".")[2]
        if cls.name.startswith("torch.optim.") and short != "LRScheduler":
            run.witness(key, "optimizer")
        elif calls.is_module_class(cls.name):
            run.witness(key, "model")
        return None
    if not isinstance(cls, Class) or optional:
        # What may be left out is mostly left out: the function knows what to take instead.
        return None
    stand_in = families.stand_in(run, cls)
    if stand_in is None:
        run.witness(key, "model")
        return None
    cls = stand_in
    if len(run.stack) < 4 and ("constructing", cls.key) not in run.used:
        run.used.add(("constructing", cls.key))
        try:
            made = construct(run, cls, frame, arg)
        finally:
            run.used.discard(("constructing", cls.key))
        if isinstance(made, Instance):
            made.path = (arg.arg,)
            run.unknowns[key] = made
            return made
    return None


def arguments_of(
    run: Run, function: Function, frame: Frame
) -> tuple[list[Value], dict[str, Value]]:
    """Return what an entry is called with: nothing is known but defaults and annotations."""
    arguments = function.node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    if function.receiver is not None and function.kind != "static":
        positional = positional[1:]
    args = [_argument(run, function, arg, frame) for arg in positional]
    kwargs = {arg.arg: _argument(run, function, arg, frame) for arg in arguments.kwonlyargs}
    if arguments.kwarg is not None:
        key = run.key("argument", function.key, "**")
        kwargs["**"] = unknowns.unknown(run, key, (arguments.kwarg.arg,), frame.site(function.node))
    return args, kwargs


def construct(run: Run, cls: Class, frame: Frame, node: ast.AST) -> Value:
    """Make an object of a class with unknown arguments."""
    initializer = cls.find("__init__")
    made = Instance(run.key("driven", cls.key, frame.site(node)), cls, cls.lib)
    made.module, made.open = cls.module, cls.open
    if isinstance(initializer, Function):
        bound = initializer.bind(made)
        args, kwargs = arguments_of(run, bound, frame)
        calls.call(run, bound, args, kwargs, frame, node)
    elif cls.find("__dataclass__") is not None:
        built = calls.construct(run, cls, [], {}, frame, node)
        if isinstance(built, Instance):
            made = built
    return made

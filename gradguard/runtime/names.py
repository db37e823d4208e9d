"""What the program calls its losses, models and optimizers: read from source, by position."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import FrameType
from typing import Any

from torch import Tensor, nn

from gradguard.runtime.sites import Site, frames_of_program

__all__ = ["argument_names", "called_name", "loss_names", "name_of", "optimizer_name", "terms"]

_cache: dict[tuple[int, ...], tuple[str, ...]] = {}


def loss_names(where: Site) -> tuple[str, ...]:
    """Return what the program calls the loss whose backward was called at ``where``.

    The spelling at the call comes first, then what callers call the argument that it is, so that
    a helper shared by several losses does not make them one.
    """
    key = where.key
    known = _cache.get(key)
    if known is None:
        if len(_cache) > 4096:
            _cache.clear()
        known = _cache[key] = tuple(dict.fromkeys(_loss_names(where)))
    return known


def _loss_names(where: Site) -> Iterator[str]:
    call = where.call()
    if call is None or not isinstance(call.node, ast.Call):
        place = where.place
        yield f"loss at row {place.location.row}"
        return
    loss = _loss_expression(call.node, where.door)
    level = 0
    while loss is not None:
        inner: str | None = None
        for spelling in _spellings(loss):
            text = ast.unparse(spelling)
            yield text
            inner = text if isinstance(spelling, ast.Name) else inner
        loss = _passed(where, level, inner) if inner else None
        level += 1


def _loss_expression(call: ast.Call, door: str) -> ast.expr | None:
    if isinstance(call.func, ast.Attribute) and door.endswith("Tensor.backward"):
        return call.func.value
    if call.args:
        return call.args[0]
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    return named.get("tensors") or named.get("loss") or named.get("tensor")


def _spellings(expression: ast.expr) -> Iterator[ast.expr]:
    """Yield an expression and what it scales, reduces or wraps."""
    waiting = [expression]
    while waiting:
        node = waiting.pop(0)
        yield node
        match node:
            case ast.Call(func=func, args=args):
                if args and not isinstance(args[0], ast.Starred | ast.Constant):
                    waiting.append(args[0])
                elif isinstance(func, ast.Attribute):
                    waiting.append(func.value)
            case ast.BinOp(left=left, op=ast.Mult() | ast.Div(), right=right):
                waiting += [part for part in (left, right) if not isinstance(part, ast.Constant)]
            case ast.UnaryOp(operand=operand):
                waiting.append(operand)
            case ast.NamedExpr(target=target):
                waiting.append(target)
            case ast.List(elts=[single]) | ast.Tuple(elts=[single]):
                waiting.append(single)
            case _:
                pass


def _passed(where: Site, level: int, name: str) -> ast.expr | None:
    """Return what the caller passes as the parameter ``name`` of the function at ``level``."""
    callee = where.call(level)
    caller = where.call(level + 1)
    if callee is None or caller is None or not isinstance(caller.node, ast.Call):
        return None
    function = callee.function
    if function is None:
        return None
    for keyword in caller.node.keywords:
        if keyword.arg == name:
            return keyword.value
    names = [arg.arg for arg in (*function.args.posonlyargs, *function.args.args)]
    if name not in names:
        return None
    position = names.index(name)
    if names[0] in ("self", "cls") and isinstance(caller.node.func, ast.Attribute):
        position -= 1
    if 0 <= position < len(caller.node.args):
        found = caller.node.args[position]
        return None if isinstance(found, ast.Starred) else found
    return None


def optimizer_name(where: Site, fallback: str) -> str:
    """Return what the program calls the optimizer that it uses at ``where``."""
    call = where.call()
    if call is None or not isinstance(call.node, ast.Call):
        return fallback
    node = call.node
    if isinstance(node.func, ast.Attribute) and "Scaler" not in where.door:
        return ast.unparse(node.func.value)
    return ast.unparse(node.args[0]) if node.args else fallback


def called_name(where: Site, fallback: str) -> str:
    """Return what the program calls the model that it calls at ``where``."""
    call = where.call()
    if call is None or not isinstance(call.node, ast.Call):
        return fallback
    return ast.unparse(call.node.func)


def argument_names(
    where: Site, count: int, function: str, keyword: str | None = None
) -> list[str] | None:
    """Return the spellings of the arguments of the call of ``function`` at ``where``.

    Args:
        where: The site of the call.
        count: How many positional arguments were passed.
        function: The name of the function, by which the call is recognised.
        keyword: A keyword whose argument is wanted instead, if it was passed as one.
    """
    call = where.call()
    if call is None or not isinstance(call.node, ast.Call):
        return None
    named = ast.unparse(call.node.func)
    arguments = call.node.args
    if not named.endswith(function) or any(isinstance(part, ast.Starred) for part in arguments):
        return None
    for passed in call.node.keywords:
        if keyword is not None and passed.arg == keyword:
            return [ast.unparse(passed.value)]
    if keyword is not None:
        return [ast.unparse(part) for part in arguments]
    return [ast.unparse(part) for part in arguments] if len(arguments) == count else None


@contextmanager
def _locals(frame: FrameType) -> Iterator[dict[str, Any]]:
    """Read the local variables of a frame without prolonging the life of what they hold.

    Before Python 3.13, ``f_locals`` of a function is a snapshot that the frame keeps until it
    returns. It is emptied at once, unless the program holds the same dictionary itself.
    """
    variables = frame.f_locals
    try:
        yield variables
    finally:
        is_function = bool(frame.f_code.co_flags & 0x0001)
        # The frame, this name, the caller's and the argument of getrefcount hold it; anything
        # more is the program's own `locals()`.
        if is_function and sys.version_info < (3, 13) and sys.getrefcount(variables) <= 4:
            variables.clear()


def terms(frame: FrameType | None, names: Iterable[str]) -> dict[str, Tensor]:
    """Find the tensors that the program calls ``names``, in the calling frames.

    Names may be variables, attributes and subscripts (``self.loss_fm``, ``losses["policy"]``).
    They are looked up without running any of the program's code, innermost frame first.
    """
    wanted = dict.fromkeys(names)
    found: dict[str, Tensor] = {}
    for _, current in zip(range(4), frames_of_program(frame), strict=False):
        with _locals(current) as variables:
            for name in [name for name in wanted if name not in found]:
                value = _resolve(name, variables, current.f_globals)
                if isinstance(value, Tensor) and value.grad_fn is not None:
                    found[name] = value
                del value
        del variables
    return found


@lru_cache(maxsize=1024)
def _path(name: str) -> ast.expr | None:
    try:
        return ast.parse(name, mode="eval").body
    except SyntaxError:
        return None


def _resolve(name: str, variables: dict[str, Any], module: dict[str, Any]) -> object:
    node = _path(name)
    return _evaluate(node, variables, module) if node is not None else None


def _evaluate(node: ast.expr, variables: dict[str, Any], module: dict[str, Any]) -> object:
    match node:
        case ast.Name(id=name):
            return variables.get(name, module.get(name))
        case ast.Attribute(value=value, attr=attribute):
            return member(_evaluate(value, variables, module), attribute)
        case ast.Subscript(value=value, slice=ast.Constant(value=key)):
            holder = _evaluate(value, variables, module)
            if type(holder) is dict:
                return holder.get(key)
            if type(holder) in (list, tuple) and isinstance(key, int):
                items: Any = holder
                return items[key] if -len(items) <= key < len(items) else None
    return None


def member(holder: object, attribute: str) -> object:
    """Read an attribute of an object where it is stored, running no property or ``__getattr__``."""
    attributes = getattr(holder, "__dict__", None)
    if not isinstance(attributes, dict):
        return None
    if attribute in attributes:
        return attributes[attribute]
    if isinstance(holder, nn.Module):
        for table in ("_parameters", "_buffers", "_modules"):
            inside = attributes.get(table)
            if isinstance(inside, dict) and attribute in inside:
                return inside[attribute]
    return None


def name_of(wanted: object, frame: FrameType | None) -> str | None:
    """Find what the program calls an object, in the frames outwards from ``frame``."""
    for _, current in zip(range(6), frames_of_program(frame), strict=False):
        with _locals(current) as variables:
            found = _named(wanted, variables) or _named(wanted, current.f_globals)
        del variables
        if found is not None:
            return found
    return None


def _named(wanted: object, variables: dict[str, Any]) -> str | None:
    holders = [(name, value) for name, value in variables.items() if not name.startswith("__")]
    for name, value in holders:
        if value is wanted:
            return name
    for name, value in holders:
        if type(value) is dict:
            inner = {f"{name}[{key!r}]": item for key, item in value.items()}
        elif type(value) in (list, tuple):
            inner = {f"{name}[{number}]": item for number, item in enumerate(value)}
        else:
            inner = {f"{name}.{key}": item for key, item in _members(value).items()}
        for path, item in inner.items():
            if item is wanted:
                return path
    return None


def _members(holder: object) -> dict[str, Any]:
    attributes = getattr(holder, "__dict__", None)
    if not isinstance(attributes, dict) or isinstance(holder, type):
        return {}
    found = dict(attributes)
    if isinstance(holder, nn.Module):
        for table in ("_parameters", "_modules"):
            found.update(attributes.get(table) or {})
    return found

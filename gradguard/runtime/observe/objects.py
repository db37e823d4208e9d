"""What the objects of a program hold, read where it is stored: no code of the program runs."""

from __future__ import annotations

import ast
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from types import (
    BuiltinFunctionType,
    CodeType,
    FrameType,
    FunctionType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

from torch import Tensor, nn

from gradguard.runtime.sites import frames_of_program

__all__ = ["attributes", "found_in", "looked_up", "reading", "spelled"]

_PLAIN = (str, bytes, bytearray, int, float, complex, bool, type(None))
_CODE = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType, CodeType, FrameType)
_TABLES = ("_parameters", "_buffers", "_modules")
_MAPPINGS = (dict, OrderedDict)
_WIDTH = 64
_BUDGET = 20_000
_IS_FUNCTION = 0x0001


def attributes(holder: object) -> dict[str, Any]:
    """Return the attributes that an object stores: in its dictionary, slots and tables."""
    if isinstance(holder, (*_PLAIN, *_CODE, Tensor)):
        return {}
    found: dict[str, Any] = {}
    try:
        stored = object.__getattribute__(holder, "__dict__")
    except AttributeError:
        stored = None
    if type(stored) is dict:
        found.update(stored)
    for cls in type(holder).__mro__:
        for name, member in vars(cls).items():
            if type(member) is MemberDescriptorType and not name.startswith("__"):
                try:
                    found.setdefault(name, member.__get__(holder))
                except AttributeError:
                    continue
    if isinstance(holder, nn.Module):
        for table in _TABLES:
            inside = found.pop(table, None)
            if isinstance(inside, dict):
                found.update(inside)
    return found


def _inside(name: str, value: object) -> Iterator[tuple[str, object]]:
    """Yield what an object holds, each with its path."""
    kind = type(value)
    if kind in _MAPPINGS:
        items: Any = value
        for key, item in islice(items.items(), _WIDTH):
            if isinstance(key, str | int):
                yield f"{name}[{key!r}]", item
    elif kind in (list, tuple):
        sequence: Any = value
        for number, item in enumerate(sequence[:_WIDTH]):
            yield f"{name}[{number}]", item
    elif isinstance(value, nn.Module):
        yield from ((spelled(name, value, key), item) for key, item in attributes(value).items())
    else:
        for key, item in attributes(value).items():
            yield f"{name}.{key}", item


def spelled(name: str, holder: object, key: str) -> str:
    """Return how a program writes the part ``key`` of what it calls ``name``."""
    if isinstance(holder, nn.Sequential | nn.ModuleList | nn.ParameterList) and key.isdigit():
        return f"{name}[{key}]"
    if isinstance(holder, nn.ModuleDict | nn.ParameterDict):
        return f"{name}[{key!r}]"
    return f"{name}.{key}"


def found_in(
    variables: dict[str, Any],
    wanted: Callable[[object], bool],
    depth: int = 3,
    seen: set[int] | None = None,
) -> Iterator[tuple[str, object]]:
    """Yield what is wanted among variables and what they hold, the shortest paths first.

    Args:
        variables: Values by name.
        wanted: Says of an object whether it is wanted; it must not keep it.
        depth: How many attributes and subscripts to follow.
        seen: The identities of what was looked into before.
    """
    seen = set() if seen is None else seen
    level: list[tuple[str, object]] = [
        (name, value) for name, value in variables.items() if not name.startswith("__")
    ]
    for _ in range(depth + 1):
        below: list[tuple[str, object]] = []
        for name, value in level:
            if isinstance(value, (*_PLAIN, *_CODE)):
                continue
            if wanted(value):
                yield name, value
            if isinstance(value, Tensor) or id(value) in seen:
                continue
            seen.add(id(value))
            if len(seen) > _BUDGET:
                return
            below.extend(_inside(name, value))
        level = below


@contextmanager
def reading(frame: FrameType) -> Iterator[dict[str, Any]]:
    """Read the local variables of a frame without prolonging the life of what they hold.

    Before Python 3.13, ``f_locals`` of a function is a snapshot that the frame keeps until it
    returns. It is emptied at once, unless the program holds the same dictionary itself.
    """
    variables = frame.f_locals
    try:
        yield variables
    finally:
        is_function = bool(frame.f_code.co_flags & _IS_FUNCTION)
        # The frame, this name, the caller's and the argument of getrefcount hold it; anything
        # more is the program's own `locals()`.
        if is_function and sys.version_info < (3, 13) and sys.getrefcount(variables) <= 4:
            variables.clear()


@lru_cache(maxsize=1024)
def _path(name: str) -> ast.expr | None:
    try:
        return ast.parse(name, mode="eval").body
    except (SyntaxError, ValueError):
        return None


def looked_up(name: str, variables: dict[str, Any], module: dict[str, Any]) -> object:
    """Return what a path such as ``self.nets['q']`` leads to, ``None`` if to nothing."""
    node = _path(name)
    return _value(node, variables, module) if node is not None else None


def _value(node: ast.expr, variables: dict[str, Any], module: dict[str, Any]) -> object:
    match node:
        case ast.Name(id=name):
            return variables.get(name, module.get(name))
        case ast.Attribute(value=value, attr=key):
            return attributes(_value(value, variables, module)).get(key)
        case ast.Subscript(value=value, slice=ast.Constant(value=key)):
            return _item(_value(value, variables, module), key)
        case ast.Subscript(
            value=value, slice=ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(key)))
        ):
            return _item(_value(value, variables, module), -key)
    return None


def _item(holder: object, key: object) -> object:
    kind = type(holder)
    if kind in _MAPPINGS:
        items: Any = holder
        try:
            return items.get(key)
        except TypeError:
            return None
    if kind in (list, tuple) and isinstance(key, int):
        sequence: Any = holder
        return sequence[key] if -len(sequence) <= key < len(sequence) else None
    if isinstance(holder, nn.Module):
        inside = list(holder.__dict__.get("_modules", {}).items())
        if isinstance(key, int):
            return inside[key][1] if -len(inside) <= key < len(inside) else None
        return dict(inside).get(str(key), attributes(holder).get(str(key)))
    return None


def frames(frame: FrameType | None, depth: int) -> Iterator[FrameType]:
    """Iterate over the program's innermost frames outwards from ``frame``."""
    return islice(frames_of_program(frame), depth)

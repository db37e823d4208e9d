"""Walks over syntax trees, which cost as much as executing them if they are done carelessly."""

from __future__ import annotations

import ast

__all__ = ["children", "walk"]


def walk(node: ast.AST) -> tuple[ast.AST, ...]:
    """Return a node and all nodes in it in the order of the source, outer ones first.

    Whether names are loaded or stored is left out. What was asked for, and what a function, a
    class or a module comes to, is remembered on its node: it is asked for again and again.
    """
    known: tuple[ast.AST, ...] | None = node.__dict__.get("_inside")
    if known is not None:
        return known
    found: list[ast.AST] = []
    # With a number beside it, a node is met again: all that is in it has been found since.
    waiting: list[tuple[ast.AST, int | None]] = [(node, None)]
    while waiting:
        one, start = waiting.pop()
        if start is not None:
            one._inside = tuple(found[start:])  # type: ignore[attr-defined]  # noqa: SLF001
            continue
        known = one.__dict__.get("_inside")
        if known is not None:
            found += known
            continue
        if one is node or type(one) in _REMEMBERED:
            waiting.append((one, len(found)))
        found.append(one)
        waiting += [(inner, None) for inner in reversed(children(one))]
    return tuple(found)


def children(node: ast.AST) -> list[ast.AST]:
    """Return the nodes directly in a node."""
    found: list[ast.AST] = []
    for name, value in node.__dict__.items():
        if type(value) is list:
            found += [one for one in value if isinstance(one, ast.AST)]
        elif isinstance(value, ast.AST) and name != "ctx":
            found.append(value)
    return found


_REMEMBERED = frozenset({ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.If})

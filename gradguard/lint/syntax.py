"""Walks over syntax trees, which cost as much as executing them if they are done carelessly."""

from __future__ import annotations

import ast

__all__ = ["children", "walk"]


def walk(node: ast.AST) -> tuple[ast.AST, ...]:
    """Return a node and all nodes in it, outer ones first, as ``ast.walk`` does.

    Whether names are loaded or stored is left out. What a function, a class or a module comes to
    is remembered on its node, since it is asked for again and again.
    """
    known: tuple[ast.AST, ...] | None = node.__dict__.get("_inside")
    if known is not None:
        return known
    found = [node]
    for outer in found:
        found += children(outer)
    made = tuple(found)
    if isinstance(node, _REMEMBERED):
        node._inside = made  # type: ignore[union-attr]  # noqa: SLF001
    return made


def children(node: ast.AST) -> list[ast.AST]:
    """Return the nodes directly in a node."""
    found: list[ast.AST] = []
    for name, value in node.__dict__.items():
        if type(value) is list:
            found += [one for one in value if isinstance(one, ast.AST)]
        elif isinstance(value, ast.AST) and name != "ctx":
            found.append(value)
    return found


_REMEMBERED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.If)

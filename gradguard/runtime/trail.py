"""How a value gets from where it is read to where it enters a loss, followed through the source.

This explains a verdict that autograd has already given; it never decides one. Assignments are
followed by name, in source order, within one function and up through what functions return.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gradguard.runtime.sites import Expression, Site

__all__ = ["Trail", "follow_call", "follow_name"]

_CUTS = frozenset({"detach", "data", "item", "shape", "size", "numpy", "grad", "requires_grad_"})
_CUT_BLOCKS = ("no_grad", "inference_mode", "set_grad_enabled(False)")
_SIMPLE = ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Expr | ast.Return
_SCOPES = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef


@dataclass(frozen=True, slots=True)
class Trail:
    """A way through the source.

    Attributes:
        origin: The expression that is read or made first.
        entry: The expression by which it enters the loss.
    """

    origin: Expression
    entry: Expression


def follow_call(made: Site, backward: Site, losses: Iterable[str]) -> Trail | None:
    """Follow the output of the call at ``made`` to the loss whose backward was called."""
    origin = made.call()
    trail: Trail | None = None
    for level in range(len(made.stack)):
        call = made.call(level)
        if call is None or origin is None:
            break
        way = _follow(call, {call.node: origin}, backward, losses)
        if way.arrived is not None:
            return way.arrived
        trail = trail or way.last
        if not way.returned:
            break
    return trail


def follow_name(name: str, backward: Site, losses: Iterable[str]) -> Trail | None:
    """Follow a variable that the program calls ``name`` to the loss whose backward was called."""
    for level in range(len(backward.stack)):
        call = backward.call(level)
        if call is None:
            return None
        reads = {
            node: call.of(_called(node, call)) for node in _nodes(call) if ast.unparse(node) == name
        }
        way = _follow(call, reads, backward, losses)
        if way.arrived is not None:
            return way.arrived
    return None


def _called(node: ast.expr, call: Expression) -> ast.expr:
    parent = call.source.parents.get(node)
    return parent if isinstance(parent, ast.Call) and parent.func is node else node


def _scope(call: Expression) -> ast.AST:
    node: ast.AST = call.node
    while not isinstance(node, _SCOPES) and node in call.source.parents:
        node = call.source.parents[node]
    return node


def _within(scope: ast.AST) -> Iterator[ast.AST]:
    """Walk a scope without entering the functions and classes defined in it."""
    waiting = list(ast.iter_child_nodes(scope))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, _SCOPES):
            waiting.extend(ast.iter_child_nodes(node))


def _nodes(call: Expression) -> list[ast.expr]:
    return [
        node
        for node in _within(_scope(call))
        if isinstance(node, ast.Name | ast.Attribute | ast.Subscript)
        and isinstance(node.ctx, ast.Load)
    ]


def _statements(call: Expression) -> list[ast.stmt]:
    found = [node for node in _within(_scope(call)) if isinstance(node, _SIMPLE)]
    return sorted(found, key=lambda node: (node.lineno, node.col_offset))


@dataclass(slots=True)
class _Way:
    """How far a value was followed within one function."""

    arrived: Trail | None = None
    last: Trail | None = None
    returned: bool = False


def _follow(
    call: Expression,
    origins: dict[ast.expr, Expression],
    backward: Site,
    losses: Iterable[str],
) -> _Way:
    """Follow values through the statements of one function.

    Args:
        call: Any expression of the function.
        origins: The nodes that carry gradient, each with the expression it came from.
        backward: Where backward was called.
        losses: What the loss is called.
    """
    statements = _statements(call)
    ends = _ends(backward)
    wanted = set(losses)
    for statement in statements:
        if _ends_in(statement, ends):
            wanted.update(_names_read(statement))
    tainted: dict[str, Expression] = {}
    way = _Way(returned=isinstance(call.function, ast.Lambda))
    for statement in statements:
        read = None if _is_cut(statement, call) else _read(statement, call, origins, tainted)
        if read is None:
            continue
        node, origin = read
        here = Trail(origin, call.of(node))
        targets = _targets(statement)
        if wanted.intersection(targets) or _ends_in(statement, ends):
            way.arrived = here
            return way
        way.returned |= isinstance(statement, ast.Return)
        if targets:
            way.last = here
            tainted.update(dict.fromkeys(targets, origin))
    return way


def _ends(backward: Site) -> set[int]:
    calls = (backward.call(level) for level in range(len(backward.stack)))
    return {id(call.node) for call in calls if call is not None}


def _ends_in(statement: ast.stmt, ends: set[int]) -> bool:
    return any(id(node) in ends for node in ast.walk(statement))


def _names_read(statement: ast.stmt) -> Iterator[str]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Name | ast.Attribute | ast.Subscript) and isinstance(
            node.ctx, ast.Load
        ):
            yield ast.unparse(node)


def _read(
    statement: ast.stmt,
    call: Expression,
    origins: dict[ast.expr, Expression],
    tainted: dict[str, Expression],
) -> tuple[ast.expr, Expression] | None:
    nodes = [node for node in ast.walk(statement) if isinstance(node, ast.expr)]
    nodes.sort(key=lambda node: (node.lineno, node.col_offset, -(node.end_col_offset or 0)))
    for node in nodes:
        parent = call.source.parents.get(node)
        if isinstance(parent, ast.Attribute) and parent.attr in _CUTS:
            continue
        if node in origins:
            carrier = _called(node, call)
            around = call.source.parents.get(carrier)
            if isinstance(around, ast.Attribute) and around.attr in _CUTS:
                continue
            return carrier, origins[node]
        if isinstance(node, ast.Name | ast.Attribute | ast.Subscript) and isinstance(
            node.ctx, ast.Load
        ):
            origin = tainted.get(ast.unparse(node))
            if origin is not None:
                return node, origin
    return None


def _targets(statement: ast.stmt) -> list[str]:
    match statement:
        case ast.Assign(targets=targets):
            found: list[ast.expr] = []
            for target in targets:
                found += target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
            return [ast.unparse(target) for target in found]
        case ast.AnnAssign(target=target) | ast.AugAssign(target=target):
            return [ast.unparse(target)]
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=holder, attr="append"))):
            return [ast.unparse(holder)]
    return []


def _is_cut(statement: ast.stmt, call: Expression) -> bool:
    """Say whether a statement stands in a block that records no gradient."""
    node: ast.AST | None = statement
    while node is not None and not isinstance(node, _SCOPES):
        if isinstance(node, ast.With | ast.AsyncWith) and any(
            cut in ast.unparse(item.context_expr) for item in node.items for cut in _CUT_BLOCKS
        ):
            return True
        node = call.source.parents.get(node)
    return False

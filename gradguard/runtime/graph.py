"""The autograd graph below a loss: which leaves it ends in, and what lies below each node."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Graph", "Node", "roots_of"]

Node = Any

_PLAIN, _LEAF, _CUSTOM = 0, 1, 2
_BASE = torch._C._FunctionBase
_CUSTOM_BASE = torch.autograd.function.BackwardCFunction


def _leaf_type() -> type:
    return type(_accumulator(torch.zeros((), requires_grad=True)))


def _accumulator(leaf: Tensor) -> Node:
    """Return the node that fills ``leaf.grad``: it stands below any view of the leaf."""
    view: Any = leaf.view_as(leaf).grad_fn
    return view.next_functions[0][0]


_LEAF_TYPE = _leaf_type()
_kinds: dict[type, int] = {_LEAF_TYPE: _LEAF}


def _kind(cls: type) -> int:
    """Classify a type of node; types of the C++ core are transparent, all others opaque."""
    if issubclass(cls, _CUSTOM_BASE) or cls.__name__ in ("CppFunction", "CppNode"):
        kind = _CUSTOM
    else:
        kind = _PLAIN
    _kinds[cls] = kind
    return kind


def is_leaf(node: Node) -> bool:
    """Say whether a node is the accumulator of a leaf."""
    return type(node) is _LEAF_TYPE


def roots_of(outputs: Iterable[Any]) -> list[Node]:
    """Return the nodes that a backward pass from ``outputs`` starts at."""
    roots = []
    for output in outputs:
        node = output.grad_fn if isinstance(output, Tensor) else getattr(output, "node", None)
        if node is None and isinstance(output, Tensor) and output.requires_grad:
            node = _accumulator(output)
        if node is not None:
            roots.append(node)
    return roots


class Graph:
    """The graph below some roots, walked once and iteratively.

    Args:
        roots: The nodes that backward starts at.

    Attributes:
        roots: These nodes.
        leaves: The accumulators, in the order in which the walk met them.
        custom: The opaque nodes: custom Functions, compiled regions, nodes of C++ extensions.
        shape: The structure of the graph: for each node met its type, then the numbers of its
            children. Two walks with equal shapes have walked equal graphs.
    """

    def __init__(self, roots: Sequence[Node]) -> None:
        """Walk the graph below ``roots``."""
        self.roots = tuple(dict.fromkeys(roots))
        self.leaves: list[Node] = []
        self.custom: list[Node] = []
        self.shape: list[Any] = []
        kinds, note = _kinds, self.shape.append
        numbers: dict[Node, int] = {root: number for number, root in enumerate(self.roots)}
        self._numbers = numbers
        stack = list(self.roots)
        while stack:
            node = stack.pop()
            cls = type(node)
            note(cls)
            kind = kinds.get(cls)
            if kind is None:
                kind = _kind(cls)
            if kind == _LEAF:
                self.leaves.append(node)
                continue
            if kind == _CUSTOM:
                self.custom.append(node)
            for child, _ in node.next_functions:
                if child is not None:
                    number = numbers.get(child)
                    if number is None:
                        number = numbers[child] = len(numbers)
                        stack.append(child)
                    note(number)

    def __contains__(self, node: Node) -> bool:
        """Say whether the walk met ``node``."""
        return node in self._numbers

    @property
    def empty(self) -> bool:
        """True if nothing requires gradient."""
        return not self.roots

    @cached_property
    def edges(self) -> dict[Node, list[Node]]:
        """For each node its children, the accumulators of leaves included."""
        return {
            node: [child for child, _ in node.next_functions if child is not None]
            for node in self._numbers
        }

    def tensors(self) -> list[tuple[Node, Tensor]]:
        """Return each accumulator with the leaf tensor that it fills."""
        return [(node, node.variable) for node in self.leaves]

    @cached_property
    def blind(self) -> list[Node]:
        """The custom Functions that may run parameters of which the graph knows nothing.

        To do so in its backward a Function must hold something to call: a reentrant checkpoint
        holds the function it will run again, a reversible block its modules.
        """
        return [node for node in self.custom if _holds_callable(node)]

    @cached_property
    def order(self) -> list[Node]:
        """All nodes, children before parents."""
        order: list[Node] = []
        edges = self.edges
        done: set[Node] = set()
        stack: list[Node] = list(self.roots)
        opened: set[Node] = set()
        while stack:
            node = stack[-1]
            if node in done:
                stack.pop()
                continue
            if node in opened:
                stack.pop()
                done.add(node)
                order.append(node)
                continue
            opened.add(node)
            stack.extend(child for child in edges[node] if child not in opened)
        return order

    def below(self, bits: Mapping[Node, int]) -> dict[Node, int]:
        """Return for each node the union of the ``bits`` of the leaves below it."""
        masks: dict[Node, int] = {}
        edges = self.edges
        for node in self.order:
            mask = bits.get(node, 0)
            for child in edges[node]:
                mask |= masks[child]
            masks[node] = mask
        return masks

    @cached_property
    def numbered(self) -> tuple[list[int], list[Node]]:
        """The sequence numbers of all nodes but accumulators, ascending, and the nodes."""
        leaves = set(self.leaves)
        numbers = [(node._sequence_nr(), node) for node in self.edges if node not in leaves]
        numbers.sort(key=lambda pair: pair[0])
        return [number for number, _ in numbers], [node for _, node in numbers]

    def between(self, start: int, end: int) -> list[Node]:
        """Return the nodes whose sequence number lies in ``start`` to ``end``, end excluded."""
        numbers, nodes = self.numbered
        return nodes[bisect_left(numbers, start) : bisect_left(numbers, end)]

    @cached_property
    def parents(self) -> dict[Node, list[Node]]:
        """For each node the nodes that consume its output."""
        parents: dict[Node, list[Node]] = {node: [] for node in self.edges}
        for node, children in self.edges.items():
            for child in children:
                parents[child].append(node)
        return parents

    def certain(self) -> set[Node]:
        """Return the leaves that a path without opaque nodes reaches."""
        opaque = set(self.custom)
        stack = [root for root in self.roots if root not in opaque]
        seen = set(stack)
        while stack:
            for child in self.edges[stack.pop()]:
                if child not in seen and child not in opaque:
                    seen.add(child)
                    stack.append(child)
        return seen.intersection(self.leaves)

    def leaving(self, part: set[Node], *, last: bool) -> tuple[Node | None, Node] | None:
        """Find the edge by which the output of ``part`` is first or last used, in program order.

        Args:
            part: Nodes of the graph.
            last: True for the last use.

        Returns:
            The consuming node outside the part (``None`` if a root lies in it) and the node
            inside, or ``None`` if the part is not below the roots.
        """
        for root in self.roots:
            if root in part:
                return None, root
        edges = [
            (node._sequence_nr(), node, child)
            for node, children in self.edges.items()
            if node not in part
            for child in children
            if child in part
        ]
        if not edges:
            return None
        _, consumer, child = (max if last else min)(edges, key=lambda edge: edge[0])
        return consumer, child


def _holds_callable(node: Node) -> bool:
    attributes = getattr(node, "__dict__", None) or {}
    for value in attributes.values():
        parts = value if isinstance(value, list | tuple) else (value,)
        if any(isinstance(part, nn.Module) or _is_function(part) for part in parts):
            return True
    return False


def _is_function(value: object) -> bool:
    return callable(value) and not isinstance(value, type | Tensor | torch.dtype)

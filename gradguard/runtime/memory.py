"""What a backward pass was found to mean, kept for as long as the same pass comes again.

In the steady state a loop builds the same graph at every turn. A graph of equal shape, over the
same leaves, at the same stack of call sites, with the models' calls at the same distances, means
what it meant before: only the walk has to be repeated.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from operator import attrgetter, call, is_, itemgetter
from typing import Any

from torch import Tensor

from gradguard.core.events import Account, Backward
from gradguard.runtime.calls import Calls
from gradguard.runtime.graph import Graph, Node, is_leaf

__all__ = ["Memory", "Shape"]

_node = itemgetter(0)
_variable = attrgetter("variable")
_trains = attrgetter("requires_grad")


class _End:
    """Stands after the edges of each node, so that they cannot be taken for another's."""


_END = ((_End(), 0),)


class Shape:
    """The structure of a graph, by which the same graph is walked again at a fraction of the cost.

    All edges are kept in one list, the edges of each node where the node was first met. To walk
    again is to follow the same positions; whether the two lists mean the same graph is then
    compared in a few passes that run in C.

    Args:
        roots: The nodes that backward starts at.
    """

    __slots__ = ("_distinct", "_first", "_leaves", "_second", "_types", "_visits")

    def __init__(self, roots: Sequence[Node]) -> None:
        """Walk the graph below ``roots``."""
        edges: list[Any] = [(root, 0) for root in roots]
        edges += _END
        first: dict[Node, int] = {}
        self._visits: list[int] = []
        self._leaves: list[int] = []
        self._first: list[int] = []
        self._second: list[int] = []
        for position, (node, _) in enumerate(edges):
            if node is None or type(node) is _End:
                continue
            if node in first:
                self._first.append(first[node])
                self._second.append(position)
                continue
            first[node] = position
            if is_leaf(node):
                self._leaves.append(position)
            else:
                self._visits.append(position)
                edges += node.next_functions + _END
        nodes = list(map(_node, edges))
        self._types = list(map(type, nodes))
        self._distinct = len(set(nodes))

    def leaves(self, roots: Sequence[Node]) -> list[Tensor] | None:
        """Return the leaves of the graph below ``roots`` if it has this shape, else ``None``."""
        edges: list[Any] = [(root, 0) for root in roots]
        edges += _END
        try:
            for position in self._visits:
                edges += edges[position][0].next_functions + _END
        except (AttributeError, IndexError):
            return None
        nodes = list(map(_node, edges))
        # Edges that met in one node meet again, and no others do.
        if list(map(type, nodes)) != self._types or len(set(nodes)) != self._distinct:
            return None
        at = nodes.__getitem__
        if self._second and not all(map(is_, map(at, self._first), map(at, self._second))):
            return None
        return list(map(_variable, map(at, self._leaves)))


class Memory:
    """What one backward pass was found to mean.

    Args:
        events: The events it was found to be, all of them settled.
        graph: Its graph, which is not kept.
        calls: The calls seen so far.
        touched: For each foreign deposit the loss, the account and the parameters reached;
            without any, calls do not matter.

    Attributes:
        events: These events.
        foreign: For each foreign deposit the loss, the account and weak references to the
            parameters reached.
    """

    __slots__ = ("_leaves", "_offsets", "_shape", "_span", "_trains", "events", "foreign")

    def __init__(
        self,
        events: Sequence[Backward],
        graph: Graph,
        calls: Calls,
        touched: Sequence[tuple[str, Account, Sequence[Tensor]]],
    ) -> None:
        """Keep what was found; parameters are held weakly."""
        self.events = tuple(events)
        self._shape = Shape(graph.roots)
        leaves = self._shape.leaves(graph.roots) or []
        self._leaves = list(map(weakref.ref, leaves))
        self._trains = list(map(_trains, leaves))
        numbers, _ = graph.numbered if touched else ([], [])
        self._span = _number(graph.roots) - numbers[0] if numbers else None
        self._offsets = self._measure(graph.roots, calls)
        self.foreign = [
            (loss, account, [weakref.ref(leaf) for leaf in leaves])
            for loss, account, leaves in touched
        ]

    def _measure(self, roots: Sequence[Node], calls: Calls) -> tuple[Any, ...]:
        if self._span is None:
            return ()
        root = _number(roots)
        return calls.offsets(root - self._span, root)

    def fits(self, roots: Sequence[Node], calls: Calls) -> bool:
        """Say whether the graph below ``roots`` is the same again."""
        leaves = self._shape.leaves(roots)
        return (
            leaves is not None
            and all(map(is_, leaves, map(call, self._leaves)))
            and list(map(_trains, leaves)) == self._trains
            and self._measure(roots, calls) == self._offsets
        )


def _number(roots: Sequence[Node]) -> int:
    return int(roots[0]._sequence_nr()) if roots else 0

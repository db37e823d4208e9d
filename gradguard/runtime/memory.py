"""What a backward pass was found to mean, kept for as long as the same pass comes again.

In the steady state a loop builds the same graph at every turn. A graph of equal shape, over the
same leaves, with the same losses at the same nodes, at the same stack of call sites, with the
models' calls at the same distances, means what it meant before: only the walk has to be repeated.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from itertools import repeat
from operator import attrgetter, call, is_, itemgetter
from typing import Any

from torch import Tensor

from gradguard.core.events import Account, Backward
from gradguard.runtime.calls import Calls
from gradguard.runtime.graph import Graph, Node, is_leaf

__all__ = ["Memory", "Shape", "Touched"]

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

    def walk(self, roots: Sequence[Node]) -> list[Node] | None:
        """Return the nodes below ``roots`` by position, or ``None`` if they have another shape."""
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
        return nodes

    def leaves(self, nodes: Sequence[Node]) -> list[Tensor]:
        """Return the leaves of a graph of this shape, given its nodes by position."""
        return list(map(_variable, map(nodes.__getitem__, self._leaves)))


class Touched:
    """The parameters of one account that a foreign loss reaches.

    Attributes:
        loss: The loss.
        account: The account.
        leaves: The identities of the parameters.

    Args:
        loss: The loss.
        account: The account.
        leaves: The parameters, which are held weakly.
    """

    __slots__ = ("_refs", "account", "leaves", "loss")

    def __init__(self, loss: str, account: Account, leaves: Sequence[Tensor]) -> None:
        """Keep what was reached."""
        self.loss, self.account = loss, account
        self.leaves = list(map(id, leaves))
        self._refs = list(map(weakref.ref, leaves))

    def gradients(self) -> list[int]:
        """Return the identities of the parameters' gradients as they are now."""
        return list(map(id, map(getattr, map(call, self._refs), repeat("grad"), repeat(None))))


class Memory:
    """What one backward pass was found to mean.

    Args:
        events: The events it was found to be, all of them settled.
        graph: Its graph, which is not kept.
        calls: The calls seen so far.
        marks: The nodes of losses that are named by tensor.
        foreign: What foreign losses reach; without any, calls do not matter.

    Attributes:
        events: These events.
        foreign: What foreign losses reach.
    """

    __slots__ = (
        "_counts",
        "_edges",
        "_leaves",
        "_marks",
        "_root",
        "_shape",
        "_span",
        "_trains",
        "events",
        "foreign",
    )

    def __init__(
        self,
        events: Sequence[Backward],
        graph: Graph,
        calls: Calls,
        marks: Mapping[str, Node],
        foreign: Sequence[Touched],
    ) -> None:
        """Keep what was found; parameters are held weakly."""
        self.events = tuple(events)
        self.foreign = foreign
        self._shape = Shape(graph.roots)
        nodes = self._shape.walk(graph.roots) or []
        leaves = self._shape.leaves(nodes)
        self._leaves = list(map(weakref.ref, leaves))
        self._trains = list(map(_trains, leaves))
        self._marks = _placed(marks, nodes)
        numbers, _ = graph.numbered if foreign else ([], [])
        self._span = _number(graph.roots) - numbers[0] if numbers else None
        self._root = _number(graph.roots)
        self._edges, self._counts = self._measure(self._root, calls)

    def _measure(self, root: int, calls: Calls) -> tuple[list[int], list[Any]]:
        return calls.edges(root - self._span) if self._span is not None else ([], [])

    def _as_far(self, root: int, calls: Calls) -> bool:
        """Say whether the models' calls lie at the same distances from the root as before."""
        if self._span is None:
            return True
        edges, counts = self._measure(root, calls)
        return counts == self._counts and edges == list(
            map((root - self._root).__add__, self._edges)
        )

    def fits(self, roots: Sequence[Node], calls: Calls, marks: Mapping[str, Node]) -> bool:
        """Say whether the graph below ``roots`` is the same again."""
        nodes = self._shape.walk(roots)
        if nodes is None:
            return False
        leaves = self._shape.leaves(nodes)
        return (
            all(map(is_, leaves, map(call, self._leaves)))
            and list(map(_trains, leaves)) == self._trains
            and self._as_far(_number(roots), calls)
            and _placed(marks, nodes) == self._marks
        )


def _number(roots: Sequence[Node]) -> int:
    return int(roots[0]._sequence_nr()) if roots else 0


def _placed(marks: Mapping[str, Node], nodes: Sequence[Node]) -> dict[str, int]:
    """Return the positions of those marks that lie in a graph."""
    return {name: nodes.index(node) for name, node in marks.items() if node in nodes}

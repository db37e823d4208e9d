"""What a backward pass was found to mean, kept for as long as the same pass comes again.

In the steady state a loop builds the same graph at every turn. A graph of equal shape, over the
same leaves, at the same stack of call sites, with the models' calls at the same distances, means
what it meant before: only the walk has to be repeated.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gradguard.core.events import Account, Backward
from gradguard.runtime.calls import Calls
from gradguard.runtime.graph import Graph

__all__ = ["Fingerprint", "Memory"]


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprint:
    """By what a graph is known again.

    Attributes:
        shape: The structure of the graph.
        leaves: Identity and ``requires_grad`` of each leaf.
        root: The sequence number of the first root.
    """

    shape: list[Any]
    leaves: list[Any]
    root: int

    @classmethod
    def of(cls, graph: Graph) -> Fingerprint:
        """Take the fingerprint of a graph."""
        leaves: list[Any] = []
        for node in graph.leaves:
            variable = node.variable
            leaves.append(id(variable))
            leaves.append(variable.requires_grad)
        root = graph.roots[0]._sequence_nr() if graph.roots else 0
        return cls(graph.shape, leaves, root)


class Memory:
    """What one backward pass was found to mean.

    Args:
        events: The events it was found to be, all of them settled.
        graph: Its graph, which is not kept.
        calls: The calls seen so far.
        touched: For each foreign deposit the loss, the account and the parameters reached;
            without any, calls do not matter.
    """

    __slots__ = ("_offsets", "_seen", "_span", "_touched", "events")

    def __init__(
        self,
        events: Sequence[Backward],
        graph: Graph,
        calls: Calls,
        touched: Sequence[tuple[str, Account, Sequence[Tensor]]],
    ) -> None:
        """Keep what was found; parameters are held weakly."""
        self.events = tuple(events)
        self._seen = Fingerprint.of(graph)
        numbers, _ = graph.numbered if touched else ([], [])
        self._span = self._seen.root - numbers[0] if numbers else None
        self._offsets = self._measure(self._seen, calls)
        self._touched = [
            (loss, account, [weakref.ref(leaf) for leaf in leaves])
            for loss, account, leaves in touched
        ]

    def touched(self) -> Iterator[tuple[str, Account, list[Tensor]]]:
        """Yield each foreign deposit's loss, account and parameters that are still alive."""
        for loss, account, refs in self._touched:
            yield loss, account, [leaf for leaf in (ref() for ref in refs) if leaf is not None]

    def _measure(self, seen: Fingerprint, calls: Calls) -> tuple[Any, ...]:
        if self._span is None:
            return ()
        return calls.offsets(seen.root - self._span, seen.root)

    def fits(self, graph: Graph, calls: Calls) -> bool:
        """Say whether a graph is the same again."""
        if graph.shape != self._seen.shape:
            return False
        seen = Fingerprint.of(graph)
        return seen.leaves == self._seen.leaves and self._measure(seen, calls) == self._offsets

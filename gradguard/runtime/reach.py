"""What a loss reaches, and what lies behind each model on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from threading import get_ident

from torch import Tensor

from gradguard.core.events import Account
from gradguard.runtime.calls import Calls, Track
from gradguard.runtime.graph import Graph, Node
from gradguard.runtime.registry import Registry
from gradguard.runtime.sites import Site

__all__ = ["Arrival", "Reading", "still_parameter"]

_PARAMETER_ARITHMETIC = frozenset({"MulBackward0", "DivBackward0", "PowBackward0"})
"""Elementwise operations by which a parameter is often scaled before it is used."""


@dataclass(slots=True)
class Arrival:
    """The gradient of a loss arriving at one account.

    Attributes:
        account: The account.
        nodes: The accumulators that it arrives at.
        leaves: The parameters behind them.
        behind: The accounts with a leaf below some node of the owner's part of the graph.
        sure: False if no call was seen and the parameters' consumers decided.
        part: The nodes the owner's calls made in this graph, if any was seen.
        calls: The sites of these calls.
    """

    account: Account
    nodes: list[Node] = field(default_factory=list)
    leaves: list[Tensor] = field(default_factory=list)
    behind: frozenset[Account] = frozenset()
    sure: bool = True
    part: list[Node] = field(default_factory=list)
    calls: list[Site] = field(default_factory=list)


class Reading:
    """One graph read in terms of the accounts of a registry.

    Args:
        graph: The graph below a loss.
        registry: The models to look for.
        inputs: If backward was given ``inputs=``, the leaves that alone receive gradient.
    """

    def __init__(
        self, graph: Graph, registry: Registry, inputs: Iterable[Tensor] | None = None
    ) -> None:
        """Sort the leaves of ``graph`` into accounts."""
        self.graph = graph
        self.registry = registry
        self.arrivals: dict[Account, Arrival] = {}
        chosen = None if inputs is None else {id(tensor) for tensor in inputs}
        self._every: dict[int, Arrival] = {}
        registry.begin()
        leaves = graph.tensors()
        found = [(node, leaf, registry.index(leaf)) for node, leaf in leaves if leaf.requires_grad]
        if registry.looked:
            found = [(node, leaf, registry.index(leaf)) for node, leaf, _ in found]
        for node, leaf, index in found:
            if index is None:
                continue
            arrival = self._every.get(index)
            if arrival is None:
                arrival = self._every[index] = Arrival(registry.account(index))
            arrival.nodes.append(node)
            if chosen is None or id(leaf) in chosen:
                arrival.leaves.append(leaf)
        for index, arrival in self._every.items():
            if arrival.leaves and index >= 0:
                self.arrivals[arrival.account] = arrival

    @property
    def strangers(self) -> list[Tensor]:
        """The trainable leaves outside all models."""
        others = self._every.get(-1)
        return others.leaves if others is not None else []

    def unseen(self) -> list[Account]:
        """Return the accounts the graph does not show and in which something requires gradient."""
        return [
            account
            for account in self.registry.accounts
            if account not in self.arrivals
            and any(p.requires_grad for p in self.registry.parameters(account))
        ]

    def look_behind(self, foreign: Callable[[Account], bool], calls: Calls | None) -> None:
        """Fill in what lies behind each foreign account that the loss arrives at."""
        accused = [arrival for arrival in self.arrivals.values() if foreign(arrival.account)]
        if not accused:
            return
        bits: dict[Node, int] = {}
        for number, arrival in enumerate(self._every.values()):
            for node in arrival.nodes:
                bits[node] = 1 << number
        every = list(self._every.values())
        # What a blind node will run again may belong to any model that is not in sight.
        for account in self.unseen() if self.graph.blind else ():
            for node in self.graph.blind:
                bits[node] = bits.get(node, 0) | 1 << len(every)
            every.append(Arrival(account))
        masks = self.graph.below(bits)
        # The pair of loss and model is judged: one passing account of a model is enough.
        behind: dict[tuple[str, ...], int] = {}
        for arrival in accused:
            owners = arrival.account.owners
            behind[owners] = behind.get(owners, 0) | self._mask(arrival, masks, calls)
        for arrival in accused:
            mask = behind[arrival.account.owners]
            arrival.behind = frozenset(
                other.account
                for number, other in enumerate(every)
                if mask >> number & 1 and other is not arrival
            )

    def below_opaque(self) -> frozenset[Account]:
        """Return the accounts below the opaque nodes of the graph."""
        found: set[Account] = set()
        below: set[Node] = set(self.graph.custom)
        waiting = list(below)
        while waiting:
            for child in self.graph.edges[waiting.pop()]:
                if child not in below:
                    below.add(child)
                    waiting.append(child)
        for arrival in self._every.values():
            if not below.isdisjoint(arrival.nodes):
                found.add(arrival.account)
        return frozenset(found)

    def _mask(self, arrival: Arrival, masks: dict[Node, int], calls: Calls | None) -> int:
        models = self.registry.models
        owners = arrival.account.owners
        if all(models[owner].bare for owner in owners):
            return 0
        if all(models[owner].loose for owner in owners) and all(p.ndim < 2 for p in arrival.leaves):
            # Numbers and vectors are their own output; a matrix is applied to something.
            return 0
        if calls is not None:
            inner = set(owners)
            innermost = [name for name in owners if not self.registry.inside(name) & inner]
            tracks = [calls.tracks[name] for name in innermost if name in calls.tracks]
            threads = {get_ident()}.union(*(track.threads for track in calls.tracks.values()))
            # Numbers restart in every thread: with calls from several, they tell nothing.
            part = self._part(tracks, arrival) if len(threads) == 1 else []
            if part:
                arrival.part = part
                mask = 0
                for node in part:
                    mask |= masks[node]
                return mask
        arrival.sure = False
        return self._mask_of_consumers(arrival, masks)

    def _part(self, tracks: list[Track], arrival: Arrival) -> list[Node]:
        numbers, _ = self.graph.numbered
        if not numbers:
            return []
        part: list[Node] = []
        for track in tracks:
            for start, end, where in track.since(numbers[0]):
                made = self.graph.between(start, end)
                if made:
                    part.extend(made)
                    arrival.calls.append(where)
        return part

    def _mask_of_consumers(self, arrival: Arrival, masks: dict[Node, int]) -> int:
        """Judge by the first operations that mix the parameters with anything else."""
        parents = self.graph.parents
        own: set[Node] = set(arrival.nodes)
        alone = masks[arrival.nodes[0]]
        waiting = [parent for node in arrival.nodes for parent in parents[node]]
        mixing: set[Node] = set()
        while waiting:
            node = waiting.pop()
            if node in own:
                continue
            if still_parameter(node, self.graph.edges[node], own, masks[node] == alone):
                own.add(node)
                mixing.discard(node)
                waiting.extend(parents[node])
            else:
                mixing.add(node)
        mask = 0
        for node in mixing:
            mask |= masks[node]
        return mask


def still_parameter(node: Node, children: list[Node], own: set[Node], alone: bool) -> bool:
    """Say whether a node makes nothing but another form of the parameters in ``own``.

    Transposes, casts and weight norm have no other input; a spectral norm divides the weight by a
    number made from it, which keeps the weight's shape.
    """
    if all(child in own for child in children) and len(children) == len(node.next_functions):
        return True
    if not alone or type(node).__name__ not in _PARAMETER_ARITHMETIC:
        return False
    shape = _shape(node)
    return any(child in own and _shape(child) == shape for child in children)


def _shape(node: Node) -> tuple[int, ...] | None:
    variable = getattr(node, "variable", None)
    if variable is not None:
        return tuple(variable.shape)
    made = node._input_metadata
    return tuple(made[0].shape) if made else None

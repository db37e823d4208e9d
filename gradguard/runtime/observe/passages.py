"""What one backward pass does, read off its graph once and recognised when it comes again."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter, call, is_
from threading import get_ident
from types import FrameType
from typing import Any

from torch import Tensor, nn

from gradguard.runtime.graph import Graph, Node
from gradguard.runtime.memory import Shape
from gradguard.runtime.monitor import Pass
from gradguard.runtime.observe.census import Branch, Census
from gradguard.runtime.observe.terms import terms_of
from gradguard.runtime.reach import still_parameter
from gradguard.runtime.sites import Site

__all__ = ["Lead", "Part", "Passage", "Reader", "Told"]

_MANY = 96
"""With more modules than this in one graph, the way of each is no longer followed."""

_trains = attrgetter("requires_grad")


@dataclass(frozen=True, slots=True)
class Lead:
    """How the output of a module gets on: where it was made, and which module takes it in.

    Attributes:
        made: Where the module was called.
        taken: The parameters of the module that takes the output in, and where that is called.
    """

    made: Site
    taken: tuple[int, Site] | None = None


@dataclass(slots=True)
class Part:
    """A loss, or a term of one.

    Attributes:
        reach: The parameters it reaches.
        behind: For sets of parameters, those below the nodes that their modules made.
    """

    reach: int
    behind: tuple[tuple[int, int], ...] = ()

    def below(self, mask: int) -> int:
        """Return the parameters that lie behind those of ``mask``."""
        found = 0
        for own, behind in self.behind:
            if own & mask:
                found |= behind
        return found


@dataclass(slots=True)
class Passage:
    """A backward pass as it was read.

    Attributes:
        number: Its number.
        where: Where backward was called.
        whole: What it reaches.
        terms: Its terms by name.
        leads: For sets of parameters, how the output of the first and of the last call gets on.
        blind: True if the graph hides part of what it reaches.
        stray: True if it ends in leaves that no model and no optimizer holds, and nowhere else.
        live: The parameters at which gradient other than zero was seen to arrive.
        dead: The parameters that the graph shows and at which nothing arrived.
        count: How often it came.
        look: How often it has to come before what arrives is looked at again.
    """

    number: int
    where: Site
    whole: Part
    terms: dict[str, Told] = field(default_factory=dict)
    leads: dict[int, tuple[Lead, Lead]] = field(default_factory=dict)
    blind: bool = False
    stray: bool = False
    live: int = 0
    dead: int = 0
    count: int = 0
    look: int = 1

    @property
    def arrives(self) -> int:
        """The parameters at which gradient arrives."""
        return self.whole.reach & ~self.dead


@dataclass(slots=True)
class Told:
    """A term as it was read.

    Attributes:
        part: What it reaches.
        additive: True if the loss is a sum of which it is a part.
    """

    part: Part
    additive: bool


@dataclass(slots=True)
class _Called:
    """A module with the nodes that its calls made, each with its call's length and site."""

    branch: Branch
    nodes: dict[Node, tuple[int, Site]]


class _Known:
    """The graph of a passage, by which it is recognised."""

    __slots__ = ("leaves", "passage", "shape", "trains")

    def __init__(self, passage: Passage, roots: Sequence[Node]) -> None:
        self.passage = passage
        self.shape = Shape(roots)
        leaves = self.shape.leaves(self.shape.walk(roots) or [])
        self.leaves = list(map(weakref.ref, leaves))
        self.trains = list(map(_trains, leaves))

    def fits(self, roots: Sequence[Node]) -> bool:
        nodes = self.shape.walk(roots)
        if nodes is None:
            return False
        leaves = self.shape.leaves(nodes)
        return (
            all(map(is_, leaves, map(call, self.leaves)))
            and list(map(_trains, leaves)) == self.trains
        )


class Reader:
    """Reads backward passes, each kind of them once.

    Args:
        census: The parameters and modules of the program.
        wanted: Names of losses, which are looked for among the terms.
    """

    def __init__(self, census: Census, wanted: Iterable[str] = ()) -> None:
        """Begin with nothing read."""
        self._census = census
        self.wanted = list(wanted)
        self.passages: list[Passage] = []
        self._known: dict[tuple[int, ...], list[_Known]] = {}
        self._same: dict[tuple[object, ...], Passage] = {}

    def read(self, run: Pass) -> Passage:
        """Return what a backward pass does."""
        inputs = () if run.inputs is None else tuple(map(id, run.inputs))
        key = (*inputs, *run.site.key)
        known = self._known.setdefault(key, [])
        for one in known:
            if one.fits(run.roots):
                return one.passage
        passage = self._read(run, inputs)
        if not passage.blind:
            known.insert(0, _Known(passage, run.roots))
            del known[4:]
        return passage

    def _read(self, run: Pass, inputs: tuple[int, ...]) -> Passage:
        graph = run.graph
        leaves = [(node, leaf) for node, leaf in graph.tensors() if leaf.requires_grad]
        known = self._parameters(leaves, run.frame)
        marks = {node: 1 << number for node, number, _ in known}
        masks = graph.below(marks)
        reach = 0
        for _, number, leaf in known:
            if not inputs or id(leaf) in inputs:
                reach |= 1 << number
        called = self._called(graph)
        behind = self._behind(graph, known, masks, called)
        terms = terms_of(run, self.wanted)
        key = (
            run.site.key,
            reach,
            behind,
            bool(graph.blind),
            tuple((name, term.node in masks) for name, term in terms.items()),
            bool(known),
        )
        same = self._same.get(key)
        if same is not None:
            return same
        passage = Passage(
            len(self.passages),
            run.site,
            Part(reach, behind),
            blind=bool(graph.blind),
            stray=not known and not graph.blind and bool(graph.roots),
        )
        for name, term in terms.items():
            if term.node in masks:
                below = Graph([term.node])
                part = Part(masks[term.node] & reach, self._behind(below, known, masks, called))
                passage.terms[name] = Told(part, term.additive)
        if len(called) <= _MANY:
            around: dict[Node, list[tuple[int, Branch, Site]]] = {}
            for one in called:
                for node, (length, where) in one.nodes.items():
                    around.setdefault(node, []).append((length, one.branch, where))
            for one in called:
                passage.leads[one.branch.mask] = self._leads(graph, one, around)
        self.passages.append(passage)
        self._same[key] = passage
        return passage

    def _parameters(
        self, leaves: list[tuple[Node, Tensor]], frame: FrameType | None
    ) -> list[tuple[Node, int, Tensor]]:
        """Number the leaves that are parameters, or that an optimizer holds."""
        census = self._census
        strangers = [
            leaf
            for _, leaf in leaves
            if isinstance(leaf, nn.Parameter) and census.number(leaf) is None
        ]
        if strangers:
            for leaf in strangers:
                census.take(leaf)
            for branch in list(census.roots):
                module = branch.module() if branch.module is not None else None
                if module is not None:
                    census.enter(module)
            covered = 0
            for branch in census.roots:
                covered |= branch.mask
            census.learn(frame)
            lost: list[Tensor] = [
                leaf for leaf in strangers if not covered >> census.take(leaf) & 1
            ]
            if lost:
                census.search(lost)
        found: list[tuple[Any, int, Tensor]] = []
        for node, one in leaves:
            number = census.number(one)
            if number is not None:
                found.append((node, number, one))
        return found

    def _called(self, graph: Graph) -> list[_Called]:
        """Return the modules that made nodes of the graph, with these nodes."""
        numbers, _ = graph.numbered
        if not numbers:
            return []
        found = []
        here = {get_ident()}
        for branch in self._census.branches():
            if branch.track.last is None:
                continue
            made: dict[Node, tuple[int, Site]] = {}
            for start, end, where in branch.track.since(numbers[0]):
                made.update(dict.fromkeys(graph.between(start, end), (end - start, where)))
            if made:
                here |= branch.track.threads
                found.append(_Called(branch, made))
        # Numbers restart in every thread: with calls from several, they tell nothing.
        return found if len(here) == 1 else []

    def _behind(
        self,
        graph: Graph,
        known: list[tuple[Node, int, Tensor]],
        masks: dict[Node, int],
        called: list[_Called],
    ) -> tuple[tuple[int, int], ...]:
        """Say what lies behind each module, or behind a parameter whose module was not called."""
        found: list[tuple[int, int]] = []
        covered = 0
        for one in called:
            own = one.branch.own & ~_bare_of(one.branch)
            nodes = [node for node in one.nodes if node in graph] if own else []
            if nodes:
                below = 0
                for node in nodes:
                    below |= masks[node]
                found.append((own, below & ~own))
                covered |= own
        for node, number, leaf in known:
            if not covered >> number & 1 and node in graph:
                below = 0 if leaf.numel() == 1 else _below_consumers(graph, node, masks)
                found.append((1 << number, below & ~(1 << number)))
        return tuple(found)

    def _leads(
        self, graph: Graph, one: _Called, around: dict[Node, list[tuple[int, Branch, Site]]]
    ) -> tuple[Lead, Lead]:
        """Follow the output of a module: where it is used first, and where last."""
        part = set(one.nodes)
        taken = _taken(graph, part, one.branch, around)
        found = []
        for last in (False, True):
            edge = graph.leaving(part, last=last)
            inside = edge[1] if edge is not None else next(iter(part))
            found.append(Lead(one.nodes[inside][1], taken))
        return found[0], found[1]


def _taken(
    graph: Graph,
    part: set[Node],
    branch: Branch,
    around: dict[Node, list[tuple[int, Branch, Site]]],
) -> tuple[int, Site] | None:
    """Find the first call of another module that takes an output in, in program order."""
    waiting = [parent for node in part for parent in graph.parents[node]]
    seen = set(part)
    best: tuple[int, int, Site] | None = None
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        others = [one for one in around.get(node, ()) if not one[1].mask & branch.mask]
        if not others:
            waiting.extend(graph.parents[node])
            continue
        _, other, where = max(others, key=lambda one: one[0])
        number = node._sequence_nr()
        if best is None or number < best[0]:
            best = (number, other.mask, where)
    return (best[1], best[2]) if best is not None else None


def _bare_of(branch: Branch) -> int:
    """Return those parameters of a module's own that stand beside its parts."""
    mask = 0
    for _, part in branch.parts:
        if part.bare:
            mask |= part.mask
    return mask


def _below_consumers(graph: Graph, leaf: Node, masks: dict[Node, int]) -> int:
    """Return what lies below the first operations that mix a parameter with anything else."""
    own = {leaf}
    alone = masks[leaf]
    waiting = list(graph.parents[leaf])
    below = 0
    while waiting:
        node = waiting.pop()
        if node in own:
            continue
        if still_parameter(node, graph.edges[node], own, masks[node] == alone):
            own.add(node)
            waiting.extend(graph.parents[node])
        else:
            below |= masks[node]
    return below

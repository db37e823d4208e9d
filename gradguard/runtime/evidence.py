"""The path of a leak in the words of the source: made here, enters there, runs backward below."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from types import FrameType

from gradguard.core.events import Evidence
from gradguard.core.findings import Place, TraceStep
from gradguard.runtime.calls import Calls
from gradguard.runtime.graph import Graph, Node
from gradguard.runtime.names import loss_names, name_of
from gradguard.runtime.reach import Arrival
from gradguard.runtime.registry import Registry
from gradguard.runtime.sites import Expression, Site
from gradguard.runtime.trail import Trail, follow_call, follow_name

__all__ = ["Accused", "absent", "hidden"]


@dataclass(frozen=True, slots=True)
class Accused:
    """A loss that arrives at a model it must not train, with all that tells how.

    Attributes:
        loss: The name of the loss.
        model: The name of the model.
        passes: True if the loss only passes through the model.
        arrival: What of the model is reached.
        reached: How many of its parameters are, in other accounts as well.
        graph: The graph of the loss.
        calls: The calls that were seen.
        registry: The models.
        where: Where backward was called.
        frame: The frame of that call, to look names up in.
    """

    loss: str
    model: str
    passes: bool
    arrival: Arrival
    reached: int
    graph: Graph
    calls: Calls
    registry: Registry
    where: Site
    frame: FrameType | None

    def evidence(self) -> Evidence:
        """Say where the model's output was made, where it enters the loss and what to write."""
        part = set(self.arrival.part) or set(self.arrival.nodes)
        # What leads nowhere else enters the loss where it is first used; what is passed through,
        # where it is used last.
        edge = self.graph.leaving(part, last=self.passes)
        entered = edge[1] if edge is not None else self.arrival.nodes[0]
        if self.arrival.part:
            found = _call_around(entered, self.calls, self.arrival.account.owners)
            if found is not None:
                return self._by_call(found[1], None if self.passes else self._next_call(part))
        return self._by_source()

    def _next_call(self, part: set[Node]) -> tuple[str, Site] | None:
        """Find the first call of another model that takes the output in, in program order."""
        others = [name for name in self.calls.tracks if name not in self.arrival.account.owners]
        waiting = [parent for node in part for parent in self.graph.parents[node]]
        seen = set(part)
        found: list[tuple[int, str, Site]] = []
        while waiting:
            node = waiting.pop()
            if node in seen:
                continue
            seen.add(node)
            around = _call_around(node, self.calls, others)
            if around is not None:
                found.append((node._sequence_nr(), *around))
            else:
                waiting.extend(self.graph.parents[node])
        if not found:
            return None
        _, name, where = min(found, key=lambda one: one[0])
        return name, where

    @property
    def _received(self) -> TraceStep:
        model = self.registry.models.get(self.model)
        total = max(len(model.parameters()) if model is not None else 0, self.reached)
        text = f"{self.reached} of {total} `{self.model}` parameters receive gradient"
        if total == 1:
            text = f"`{self.model}` receives gradient"
        return TraceStep(self.where.place, text)

    @property
    def _losses(self) -> tuple[str, ...]:
        return (self.loss, *loss_names(self.where))

    def _by_call(self, made: Site, entry: tuple[str, Site] | None) -> Evidence:
        steps = [TraceStep(made.place, f"`{self.model}`'s output, carries gradient")]
        trail = follow_call(made, self.where, self._losses)
        call = made.call()
        if entry is not None:
            name, around = entry
            text = f"enters `{name}`, and with it `{self.loss}`, here"
            passed, into = _argument(made, around) or (None, around.call())
            steps.append(TraceStep(around.place, text))
            place, cut = _detached(passed, into, around.place)
        elif trail is not None:
            place, cut = _detached(trail.entry, None, made.place)
            if place != made.place:
                steps.append(TraceStep(place, f"enters `{self.loss}` here"))
        else:
            place, cut = _detached(call, None, made.place)
        return self._told(steps, place, cut)

    def _by_source(self) -> Evidence:
        """Say what the source tells where no call of the model was seen."""
        trail = self._trail_of_name()
        if trail is None:
            steps = [TraceStep(self.where.place, self._received.message)]
            text = (
                f"the lines where `{self.model}` is called and its output enters `{self.loss}` are "
                "not known: the forward ran outside the guard; put it inside the `with` block"
            )
            return Evidence(tuple(steps), text, self.where.place)
        called = isinstance(trail.origin.node, ast.Call)
        text = f"`{self.model}`'s output" if called else f"`{self.model}` is read"
        steps = [TraceStep(trail.origin.place, f"{text}, carries gradient")]
        if trail.entry.place != trail.origin.place:
            steps.append(TraceStep(trail.entry.place, f"enters `{self.loss}` here"))
        place, cut = _detached(trail.entry if called else trail.origin, None, self.where.place)
        return self._told(steps, place, cut)

    def _trail_of_name(self) -> Trail | None:
        model = self.registry.models.get(self.model)
        objects: list[object] = []
        if model is not None:
            objects += model.modules or model.parameters()[:1]
        names = [name for name in (name_of(found, self.frame) for found in objects) if name]
        for name in dict.fromkeys([*names, self.model]):
            trail = follow_name(name, self.where, self._losses)
            if trail is not None:
                return trail
        return None

    def _told(self, steps: list[TraceStep], place: Place, cut: str | None) -> Evidence:
        filtered = f"`gradguard.backward({self.loss}, into=...)`"
        helps = [cut, filtered if self.loss.isidentifier() else None]
        text = ", or ".join(part for part in helps if part) or None
        return Evidence((*steps, self._received), text, place)


def hidden(model: str, loss: str, reached: int, total: int, where: Place) -> Evidence:
    """Say what is known of a model that a loss reaches out of the graph's sight."""
    text = f"{reached} of {total} `{model}` parameters receive gradient, inside a checkpoint"
    told = (
        f"`{model}` is run inside a reentrant checkpoint, of which the graph shows nothing: "
        f"`use_reentrant=False` shows where it enters `{loss}`"
    )
    return Evidence((TraceStep(where, text),), told, where)


def absent(model: str, loss: str, calls: Calls) -> Evidence:
    """Say what is known of a model that a loss should reach and does not."""
    track = calls.tracks.get(model)
    uncalled = f"`{model}` is not called in the forward of `{loss}`"
    if track is None:
        return Evidence(help=uncalled)
    if track.last is not None:
        step = TraceStep(track.last.place, f"`{model}`'s output, carries gradient")
        text = f"its output does not enter `{loss}`: look for `detach`, `.data` and `no_grad`"
        return Evidence((step,), text)
    if track.silent is not None:
        step = TraceStep(track.silent.place, f"`{model}` runs without recording gradient")
        text = "`no_grad` or `inference_mode` is on at this call, or the model is frozen"
        return Evidence((step,), text)
    return Evidence(help=uncalled)


def _detached(
    expression: Expression | None, call: Expression | None, fallback: Place
) -> tuple[Place, str | None]:
    """Return the place of an expression and the text that cuts it, within its call if short."""
    if (
        expression is None
        and call is not None
        and isinstance(call.node, ast.Call)
        and call.node.args
    ):
        expression = call.of(call.node.args[0])
    if expression is None:
        return fallback, None
    inner = str(expression)
    if isinstance(expression.node, ast.BinOp | ast.UnaryOp | ast.IfExp | ast.Compare):
        inner = f"({inner})"
    cut = f"{inner}.detach()"
    if call is not None and isinstance(call.node, ast.Call):
        whole = _rewritten(call.node, expression.node, cut)
        if whole is not None and len(whole) <= 60:
            return expression.place, f"`{whole}`"
    return expression.place, f"`{cut}`"


def _rewritten(call: ast.Call, old: ast.expr, new: str) -> str | None:
    if old not in [*call.args, *(keyword.value for keyword in call.keywords)]:
        return None
    parts = [new if part is old else ast.unparse(part) for part in call.args]
    parts += [
        f"{keyword.arg}={new}" if keyword.value is old else ast.unparse(keyword)
        for keyword in call.keywords
    ]
    return f"{ast.unparse(call.func)}({', '.join(parts)})"


def _argument(where: Site, entry: Site) -> tuple[Expression, Expression] | None:
    """Find the argument by which an output enters a call, at any level of the call's stack."""
    outputs = [call for call in (where.call(level) for level in range(len(where.stack))) if call]
    names = {name for call in outputs for name in call.targets}
    nodes = [call.node for call in outputs]
    for level in range(len(entry.stack)):
        call = entry.call(level)
        if call is None or not isinstance(call.node, ast.Call):
            continue
        for part in (*call.node.args, *(keyword.value for keyword in call.node.keywords)):
            inside = _inside(part, nodes, names)
            if inside is not None:
                return call.of(inside), call
    return None


def _inside(part: ast.expr, nodes: Iterable[ast.expr], names: set[str]) -> ast.expr | None:
    for node in ast.walk(part):
        if isinstance(node, ast.expr) and (node in list(nodes) or ast.unparse(node) in names):
            return node
    return None


def _call_around(node: Node | None, calls: Calls, names: Iterable[str]) -> tuple[str, Site] | None:
    """Find the innermost call of one of ``names`` that made ``node``."""
    if node is None or not hasattr(node, "_sequence_nr"):
        return None
    number = node._sequence_nr()
    best: tuple[int, str, Site] | None = None
    for name in names:
        track = calls.tracks.get(name)
        for start, end, where in track.since(number) if track is not None else ():
            if start <= number < end and (best is None or end - start < best[0]):
                best = (end - start, name, where)
    return (best[1], best[2]) if best else None

"""The terms of a loss: named scalars in the frames of the backward call and its callers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gradguard.runtime.graph import Node
from gradguard.runtime.monitor import Pass
from gradguard.runtime.observe.objects import found_in, frames, looked_up, reading

__all__ = ["Term", "terms_of"]

_FRAMES = 4
_DEPTH = 2
_SUMS = frozenset({"AddBackward0", "SubBackward0", "RsubBackward1"})
_SCALES = frozenset({"MulBackward0", "DivBackward0", "NegBackward0"})
_WRAPS = frozenset(
    {
        "SumBackward0",
        "MeanBackward0",
        "StackBackward0",
        "CatBackward0",
        "ViewBackward0",
        "ReshapeAliasBackward0",
        "UnsqueezeBackward0",
        "SqueezeBackward0",
        "ExpandBackward0",
        "AliasBackward0",
        "ToCopyBackward0",
        "CloneBackward0",
    }
)


@dataclass(frozen=True, slots=True)
class Term:
    """A named scalar on the way to a loss.

    Attributes:
        node: The node that made it.
        additive: True if the loss is a sum of which it is a part.
    """

    node: Node
    additive: bool


def terms_of(run: Pass, wanted: Iterable[str]) -> dict[str, Term]:
    """Find the terms of the loss whose backward is called; nothing found is kept alive.

    Args:
        run: The backward pass.
        wanted: Names to look for wherever they lead; scalars are found without.
    """
    graph = run.graph
    roots = set(graph.roots)
    parts = set(_summands(graph.roots))
    found: dict[str, Term] = {}
    nodes: dict[Node, str] = {}

    def is_term(value: object) -> bool:
        return (
            isinstance(value, Tensor)
            and value.grad_fn is not None
            and value.grad_fn not in roots
            and value.numel() == 1
            and value.grad_fn in graph
        )

    for frame in frames(run.frame, _FRAMES):
        with reading(frame) as variables:
            for name, tensor in _named(variables, frame.f_globals, wanted):
                if name not in found and tensor.grad_fn in graph:
                    found[name] = Term(tensor.grad_fn, tensor.grad_fn in parts)
                del tensor
            for name, value in found_in(variables, is_term, depth=_DEPTH):
                node = getattr(value, "grad_fn", None)
                if name not in found and node not in nodes:
                    found[name] = Term(node, node in parts)
                    nodes[node] = name
                del value
        del variables
    return found


def _named(
    variables: dict[str, Any], module: dict[str, Any], wanted: Iterable[str]
) -> Iterator[tuple[str, Tensor]]:
    for name in wanted:
        value = looked_up(name, variables, module)
        if isinstance(value, Tensor) and value.grad_fn is not None:
            yield name, value
        del value


def _summands(roots: Iterable[Node]) -> Iterator[Node]:
    """Yield the nodes whose values are added up, scaled by numbers, to the loss."""
    waiting = list(roots)
    seen: set[Node] = set()
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        yield node
        kind = type(node).__name__
        children = [child for child, _ in node.next_functions if child is not None]
        if (
            kind in _SUMS
            or (kind in _SCALES and len(children) == 1)
            or (kind in _WRAPS and len(children) >= 1 and _small(node))
        ):
            waiting += children


def _small(node: Node) -> bool:
    """Say whether a node sums up a few scalars, rather than the values of a batch."""
    return all(
        child is None or type(child).__name__ in _SUMS | _SCALES | _WRAPS | {"MeanBackward0"}
        for child, _ in node.next_functions
    )

"""Which losses a backward pass carries, by the names that a policy knows."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gradguard.core.policy import Policy
from gradguard.runtime.graph import Node
from gradguard.runtime.monitor import Pass
from gradguard.runtime.names import loss_names, terms

__all__ = ["Losses", "Named"]


@dataclass(frozen=True, slots=True)
class Named:
    """A loss, or a term of one, with its name.

    Attributes:
        name: What policies and findings call it.
        outputs: The tensors it is made of; ``None`` for all that backward starts from.
    """

    name: str
    outputs: Sequence[Any] | None = None


class _Local(threading.local):
    name: str | None = None


class Losses:
    """Finds the names of losses: given by the guard, watched tensors, or the program's own words.

    Args:
        policy: The policy whose names matter.

    Attributes:
        direct: The losses of which a backward was called, so that they are no terms of others.
    """

    def __init__(self, policy: Policy) -> None:
        """Begin with nothing named."""
        self._policy = policy
        self._local = _Local()
        self._watched: dict[str, tuple[weakref.ref[Tensor], int]] = {}
        self.direct: set[str] = set()

    @property
    def current(self) -> str | None:
        """The name that this thread's backwards have now, if one was given."""
        return self._local.name

    @property
    def marks(self) -> dict[str, Node]:
        """The nodes of the losses that are named by tensor and still as they were named."""
        found = {}
        for name, (alive, number) in self._watched.items():
            tensor = alive()
            node = tensor.grad_fn if tensor is not None else None
            if node is not None and node._sequence_nr() == number:
                found[name] = node
        return found

    @contextmanager
    def named(self, name: str) -> Iterator[None]:
        """Name every backward of this thread ``name`` inside the block."""
        before = self.current
        self._local.name = name
        try:
            yield
        finally:
            self._local.name = before

    def watch(self, losses: Mapping[str, Tensor]) -> None:
        """Name losses by tensor, so that a backward of their sum is attributed to each.

        Tensors are held weakly: naming a loss keeps neither it nor its graph alive.
        """
        for name, tensor in losses.items():
            if tensor.grad_fn is not None:
                self._watched[name] = (weakref.ref(tensor), tensor.grad_fn._sequence_nr())
            else:
                self._watched.pop(name, None)

    def forget(self) -> None:
        """Forget the tensors that were named."""
        self._watched.clear()

    def of(self, run: Pass) -> tuple[list[Named], str]:
        """Return the losses a backward pass carries, and what the program calls the whole.

        A name given by the guard comes first, then the spelling at the call and at its callers.
        Named parts of the sum are losses of their own.
        """
        given = self.current
        spellings = () if given else loss_names(run.site)
        shown = given or (spellings[0] if spellings else "loss")
        direct = given or next((s for s in spellings if self._policy.rule(s) is not None), None)
        if direct is None:
            return self._terms(run), shown
        self.direct.add(direct)
        watched = [named for named in self._parts(run) if named.name != direct]
        return [Named(direct), *watched], shown

    def _parts(self, run: Pass) -> list[Named]:
        return [
            Named(name, (self._watched[name][0](),))
            for name, node in self.marks.items()
            if node in run.graph
        ]

    def _terms(self, run: Pass) -> list[Named]:
        found = self._parts(run)
        if found:
            return found
        wanted = [name for name in self._policy if name not in self.direct]
        tensors = terms(run.frame, wanted)
        whole = run.graph.roots
        return [
            Named(name, None if whole == (tensor.grad_fn,) else (tensor,))
            for name, tensor in tensors.items()
            if tensor.grad_fn in run.graph
        ]

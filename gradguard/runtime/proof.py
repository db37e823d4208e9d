"""Proof that a gradient arrives: by asking autograd beforehand, or by what backward really did.

Only the accusing path comes here. It may read values and so wait for the device; the steady state
never does.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import torch
from torch import Tensor, nn

from gradguard.runtime.monitor import run_engine

__all__ = ["Answer", "Docket", "Vault", "ask", "can_set_aside", "judge"]


class Answer(Enum):
    """What a look at a gradient showed."""

    LIVE = auto()
    ZERO = auto()
    NONE = auto()
    OPEN = auto()


def has_value(gradient: Tensor) -> bool:
    """Say whether any element differs from zero; this waits for the device."""
    values = gradient.detach()
    if values.layout is torch.sparse_coo:
        values = values.coalesce().values()
    return bool((values != 0).any())


def judge(gradients: Iterable[Tensor | None]) -> Answer:
    """Sum up several gradients: live if one is, else zero if one is there, else none."""
    answer = Answer.NONE
    for gradient in gradients:
        if gradient is not None:
            if has_value(gradient):
                return Answer.LIVE
            answer = Answer.ZERO
    return answer


def ask(
    outputs: Sequence[Any],
    gradients: Sequence[Any] | None,
    leaves: list[Tensor],
    modules: Iterable[nn.Module] = (),
) -> Answer:
    """Ask autograd what gradient the leaves would get, writing nothing.

    Args:
        outputs: The tensors that backward would start from.
        gradients: The gradients it would start with; ones if ``None``.
        leaves: The parameters in question.
        modules: What a checkpoint may run again; their buffers stay as they are.

    Returns:
        ``OPEN`` if autograd cannot tell, as with a reentrant checkpoint in the graph.
    """
    if gradients is None:
        gradients = [torch.ones_like(output) for output in outputs]
    with _untouched(modules):
        try:
            found = run_engine(
                tuple(outputs),
                tuple(gradients),
                True,
                False,
                tuple(leaves),
                allow_unreachable=True,
                accumulate_grad=False,
            )
        except RuntimeError:
            return Answer.OPEN
    return judge(found)


@contextmanager
def _untouched(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Put random states and buffers back as they were: a checkpoint recomputes its forward."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    buffers = {id(b): b for module in modules for b in module.buffers()}
    kept = [(buffer, buffer.detach().clone()) for buffer in buffers.values()]
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, value in kept:
                    # A batch norm writes its statistics without raising their version.
                    if not torch.equal(buffer, value):
                        buffer.copy_(value)


class Vault:
    """Keeps gradients aside while a backward runs, so that what it adds is seen by itself.

    The old gradients are taken out by reference and put back as they were; where the new ones
    stand they are added in place, which is what accumulation does, bit for bit.

    Args:
        parameters: The parameters whose gradients are taken out.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        """Take the gradients out."""
        self._kept = {id(p): (p, p.grad) for p in parameters}
        for parameter, _ in self._kept.values():
            parameter.grad = None

    def look(self, parameters: Iterable[Tensor]) -> Answer:
        """Say what the backward has written for ``parameters`` since."""
        return judge(p.grad for p in parameters if id(p) in self._kept)

    def close(self, refused: Iterable[Tensor] = ()) -> None:
        """Put the old gradients back, with what was added, but for the ``refused`` ones."""
        without = {id(parameter) for parameter in refused}
        for key, (parameter, old) in self._kept.items():
            new = parameter.grad
            if key in without or new is None:
                parameter.grad = old
            elif old is not None:
                with torch.no_grad():
                    old.add_(new)
                parameter.grad = old
        self._kept = {}


def can_set_aside(parameters: Iterable[Tensor]) -> bool:
    """Say whether gradients may be taken out while a backward runs.

    Not if they are sparse, carry a graph, are views into shared buckets, or if hooks of the
    program may read them on the way.
    """
    return all(_is_plain(p.grad) and not _is_hooked(p) for p in parameters)


def _is_plain(gradient: Tensor | None) -> bool:
    return gradient is None or (
        gradient.layout is torch.strided and not gradient._is_view() and gradient.grad_fn is None
    )


def _is_hooked(parameter: Tensor) -> bool:
    return bool(
        parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None)
    )


@dataclass(slots=True)
class _Patience:
    """How many occurrences of an acquitted suspicion pass before the next look."""

    wait: int = 0
    step: int = 1


class Docket:
    """Which suspicions have been proved, and which were acquitted and for how long."""

    def __init__(self) -> None:
        """Begin without suspicions."""
        self._proved: set[Hashable] = set()
        self._patience: dict[Hashable, _Patience] = {}

    def proved(self, key: Hashable) -> bool:
        """Say whether a suspicion has been proved."""
        return key in self._proved

    def prove(self, key: Hashable) -> None:
        """Take note that a suspicion was proved: it need not be looked at again."""
        self._proved.add(key)

    def due(self, key: Hashable) -> bool:
        """Say whether to look at a suspicion now; each acquittal doubles the wait."""
        patience = self._patience.get(key)
        if patience is None or not patience.wait:
            return True
        patience.wait -= 1
        return False

    def acquit(self, key: Hashable) -> None:
        """Leave a suspicion alone for twice as long as before."""
        patience = self._patience.setdefault(key, _Patience())
        patience.wait, patience.step = patience.step, min(patience.step * 2, 4096)

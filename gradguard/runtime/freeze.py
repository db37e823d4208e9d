"""Hold models fixed for a while, and verify that they were."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradguard.core.codes import code
from gradguard.core.findings import Finding, IsolationError, Place, Severity, TraceStep
from gradguard.runtime.names import argument_names
from gradguard.runtime.registry import Model
from gradguard.runtime.sites import site

__all__ = ["frozen"]


@dataclass(slots=True)
class _Held:
    """One tensor that must not change: what it was when the block began."""

    model: str
    name: str
    tensor: Tensor
    version: int
    value: Tensor | None

    def changed(self) -> bool:
        """Say whether the tensor has changed since."""
        if self.value is not None:
            # Bit by bit, so that NaN equals itself.
            return not torch.equal(_bits(self.tensor), _bits(self.value))
        return bool(self.tensor._version != self.version)


@contextmanager
def frozen(*models: Any, values: bool = True) -> Iterator[None]:
    """Hold models fixed inside the block: parameters, buffers, and each ``requires_grad``.

    Inside, no parameter of ``models`` requires gradient, so no loss trains them, though every loss
    may pass through. Afterwards each parameter's own ``requires_grad`` is as it was, also of those
    that were frozen before.

    Args:
        *models: Modules, parameters or collections of them.
        values: Compare values, which costs one copy of the models and finds every change, also by
            optimizers and through ``.data``. With ``False`` only version counters are compared:
            free, but writes through ``.data`` and fused optimizers go unseen.

    Raises:
        IsolationError: At the end of the block: GG401 if a parameter was unfrozen or changed,
            GG403 if a buffer changed, such as the statistics of a batch norm in train mode. An
            exception that is on its way already is never replaced.

    Example:
        >>> import torch, gradguard
        >>> critic = torch.nn.Linear(2, 1)
        >>> with gradguard.frozen(critic):
        ...     critic.weight.requires_grad
        False
        >>> critic.weight.requires_grad
        True
    """
    if not models:
        raise ValueError("name at least one model, such as `gradguard.frozen(critic)`")
    where = site(sys._getframe(2))
    spelled = argument_names(where, len(models), "frozen")
    names = spelled or [type(model).__name__ for model in models]
    named = [Model(name, spec) for name, spec in zip(names, models, strict=True)]
    parameters = [
        _Held(*found, found[2]._version, _copy(found[2], values)) for found in _parameters(named)
    ]
    buffers = [
        _Held(*found, found[2]._version, _copy(found[2], values)) for found in _buffers(named)
    ]
    flags = [(held.tensor, held.tensor.requires_grad) for held in parameters]
    unfrozen: list[_Held] = []
    failed = True
    try:
        for tensor, _ in flags:
            tensor.requires_grad_(False)
        yield
        unfrozen = [held for held in parameters if held.tensor.requires_grad]
        failed = False
    finally:
        for tensor, flag in flags:
            tensor.requires_grad_(flag)
        if not failed:
            findings = [*_judge(where.place, parameters, unfrozen, buffers)]
            if findings:
                raise IsolationError(findings)


def _parameters(models: list[Model]) -> Iterator[tuple[str, str, Tensor]]:
    seen: set[int] = set()
    for model in models:
        names = {id(p): name for module in model.modules for name, p in module.named_parameters()}
        for number, parameter in enumerate(model.parameters()):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield model.name, names.get(id(parameter), f"parameter {number}"), parameter


def _buffers(models: list[Model]) -> Iterator[tuple[str, str, Tensor]]:
    seen: set[int] = set()
    for model in models:
        for module in model.modules:
            for name, buffer in module.named_buffers():
                if id(buffer) not in seen:
                    seen.add(id(buffer))
                    yield model.name, name, buffer


def _copy(tensor: Tensor, values: bool) -> Tensor | None:
    return tensor.detach().clone() if values else None


def _bits(tensor: Tensor) -> Tensor:
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8) if flat.numel() else flat


def _judge(
    place: Place, parameters: list[_Held], unfrozen: list[_Held], buffers: list[_Held]
) -> Iterator[Finding]:
    changed = [held for held in parameters if held.changed()]
    moved = [held for held in buffers if held.changed()]
    for model in dict.fromkeys(held.model for held in (*unfrozen, *changed, *moved)):
        for kind, found, said, help_text in (
            (
                "GG401",
                [held for held in unfrozen if held.model == model],
                "was unfrozen inside `frozen`",
                "something sets `requires_grad` inside the block: a toggle, or a nested unfreeze",
            ),
            (
                "GG401",
                [held for held in changed if held.model == model],
                "was changed inside `frozen`",
                "an optimizer step, a copy or an average writes to it inside the block",
            ),
            (
                "GG403",
                [held for held in moved if held.model == model],
                "has buffers that changed inside `frozen`",
                f"`{model}.eval()`: in train mode a batch norm updates its statistics",
            ),
        ):
            if found:
                shown = ", ".join(held.name for held in found[:3])
                more = f" and {len(found) - 3} more" if len(found) > 3 else ""
                yield Finding(
                    code=kind,
                    name=code(kind).name,
                    severity=code(kind).severity or Severity.ERROR,
                    message=f"`{model}` {said}: {shown}{more}",
                    place=place,
                    model=model,
                    trace=(TraceStep(place, f"holds `{model}` fixed"),),
                    help=help_text,
                )

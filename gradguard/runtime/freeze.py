"""Hold models fixed for a while, and verify that they were."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from gradguard.core.codes import code
from gradguard.core.findings import Finding, IsolationError, TraceStep
from gradguard.runtime.models import Model
from gradguard.runtime.names import argument_names
from gradguard.runtime.sites import site

__all__ = ["frozen"]

_SHOWN = 3


@dataclass(slots=True)
class _Held:
    """One tensor that must not change: what it was when the block began."""

    model: str
    name: str
    tensor: Tensor
    flag: bool
    version: int
    value: Tensor | None

    def changed(self) -> bool:
        """Say whether the tensor has changed since."""
        if self.value is not None:
            # Bit by bit, so that NaN equals itself.
            return not torch.equal(_bits(self.tensor), _bits(self.value))
        return bool(self.tensor._version != self.version)


class frozen:  # noqa: N801  a context manager that reads as a word
    """Hold models fixed inside the block: parameters, buffers, and each ``requires_grad``.

    Inside, no parameter of ``models`` requires gradient, so no loss trains them, though every loss
    may pass through. Afterwards each parameter's own ``requires_grad`` is as it was, also of those
    that were frozen before.

    Args:
        *models: Modules, parameters or collections of them.
        values: Compare values, which costs one copy of the models and finds every change, also by
            optimizers and through ``.data``. With ``False`` only version counters are compared:
            free, but writes through ``.data`` and by fused optimizers go unseen.

    Raises:
        IsolationError: At the end of the block: GG401 if a parameter was unfrozen, changed or
            replaced, GG403 if a buffer was, such as the statistics of a batch norm in train mode.
            An exception that is on its way already is never replaced.

    Example:
        >>> import torch, gradguard
        >>> critic = torch.nn.Linear(2, 1)
        >>> with gradguard.frozen(critic):
        ...     critic.weight.requires_grad
        False
        >>> critic.weight.requires_grad
        True
    """

    def __init__(self, *models: Any, values: bool = True) -> None:
        """Check the models; nothing is frozen yet."""
        if not models:
            raise ValueError("name at least one model, such as `gradguard.frozen(critic)`")
        self._site = site(sys._getframe(1))
        spelled = argument_names(self._site, len(models), "frozen")
        names = spelled or [type(model).__name__ for model in models]
        self._models = [Model(name, spec) for name, spec in zip(names, models, strict=True)]
        self._values = values
        self._parameters: list[_Held] = []
        self._buffers: list[_Held] = []
        self._active = False

    def __enter__(self) -> Self:
        """Freeze."""
        if self._active:
            raise RuntimeError("this block is active already; make another `gradguard.frozen`")
        self._active = True
        self._parameters = [self._hold(*found) for found in _parameters(self._models)]
        self._buffers = [self._hold(*found) for found in _buffers(self._models)]
        for held in self._parameters:
            held.tensor.requires_grad_(False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Restore every flag, and verify that nothing has changed."""
        unfrozen = [held for held in self._parameters if held.tensor.requires_grad]
        for held in self._parameters:
            held.tensor.requires_grad_(held.flag)
        self._active = False
        findings = [] if error is not None else list(self._judge(unfrozen))
        self._parameters, self._buffers = [], []
        if findings:
            raise IsolationError(findings)

    def _hold(self, model: str, name: str, tensor: Tensor) -> _Held:
        value = tensor.detach().clone() if self._values else None
        return _Held(model, name, tensor, tensor.requires_grad, tensor._version, value)

    def _judge(self, unfrozen: list[_Held]) -> Iterator[Finding]:
        parameters = {(model, name): tensor for model, name, tensor in _parameters(self._models)}
        buffers = {(model, name): tensor for model, name, tensor in _buffers(self._models)}
        replaced = _replaced(self._parameters, parameters)
        changed = [held for held in self._parameters if held not in replaced and held.changed()]
        moved = _replaced(self._buffers, buffers)
        moved += [held for held in self._buffers if held not in moved and held.changed()]
        return self._findings(
            ("GG401", unfrozen, "was unfrozen", "something sets `requires_grad` inside the block"),
            ("GG401", replaced, "was replaced", "something assigns new parameters in the block"),
            ("GG401", changed, "was changed", "an optimizer step or a copy writes to it inside"),
            (
                "GG403",
                moved,
                "has buffers that changed",
                "put it in eval mode: in train mode a batch norm updates its statistics",
            ),
        )

    def _findings(self, *judged: tuple[str, list[_Held], str, str]) -> Iterator[Finding]:
        place = self._site.place
        for name, found, said, help_text in judged:
            for model in dict.fromkeys(held.model for held in found):
                names = [held.name for held in found if held.model == model]
                more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
                entry = code(name)
                yield Finding(
                    code=entry.code,
                    name=entry.name,
                    severity=entry.severity,
                    message=f"`{model}` {said} inside `frozen`: {', '.join(names[:_SHOWN])}{more}",
                    place=place,
                    model=model,
                    trace=(TraceStep(place, f"holds `{model}` fixed"),),
                    help=help_text,
                )


def _replaced(held: list[_Held], now: dict[tuple[str, str], Tensor]) -> list[_Held]:
    return [one for one in held if now.get((one.model, one.name)) is not one.tensor]


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


def _bits(tensor: Tensor) -> Tensor:
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8) if flat.numel() else flat

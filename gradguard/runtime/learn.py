"""Models and optimizers that nobody declared: found by their calls, or among living objects."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from types import FrameType

from torch import Tensor, nn
from torch.optim import Optimizer

from gradguard.runtime.names import called_name, name_of
from gradguard.runtime.registry import Registry
from gradguard.runtime.sites import site

__all__ = ["Learner", "optimizers_alive"]


def optimizers_alive() -> list[Optimizer]:
    """Return all optimizers of the process; walks every object, so for the accusing path only."""
    return [found for found in gc.get_objects() if issubclass(type(found), Optimizer)]


class Learner:
    """Adds models to a registry as they turn up, named as the program names them.

    Args:
        registry: Where they are added.
    """

    def __init__(self, registry: Registry) -> None:
        """Begin with what the registry holds."""
        self._registry = registry

    def by_call(self, module: nn.Module, frame: FrameType | None) -> str | None:
        """Take in a module that was called outermost and shares nothing with a known model."""
        return self._registry.add(called_name(site(frame), type(module).__name__), module)

    def by_parameter(self, strangers: Sequence[Tensor], frame: FrameType | None) -> bool:
        """Take in the models that unknown parameters belong to, whose calls were not seen."""
        left = {id(tensor): tensor for tensor in strangers}
        added = False
        while left:
            tensor = next(iter(left.values()))
            owner = self._outermost(tensor)
            if owner is None:
                self._registry.add(name_of(tensor, frame) or "parameter", tensor)
                del left[id(tensor)]
            else:
                name = name_of(owner, frame) or type(owner).__name__
                self._registry.add(name, owner)
                for parameter in owner.parameters():
                    left.pop(id(parameter), None)
                left.pop(id(tensor), None)
            added = True
        return added

    def _outermost(self, tensor: Tensor) -> nn.Module | None:
        """Find the largest module around a parameter that holds nothing of a known model."""
        modules = [found for found in gc.get_objects() if issubclass(type(found), nn.Module)]
        best: nn.Module | None = None
        size = 0
        for module in modules:
            inside = list(module.parameters())
            if not any(parameter is tensor for parameter in inside):
                continue
            foreign = not any(self._registry.owned(parameter) for parameter in inside)
            if foreign and (best is None or len(inside) > size):
                best, size = module, len(inside)
        return best

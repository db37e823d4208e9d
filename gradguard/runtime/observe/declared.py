"""What a policy names, looked up in the program as it runs."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from types import FrameType

from torch import Tensor, nn

from gradguard.core.policy import Policy
from gradguard.runtime.observe.census import Census
from gradguard.runtime.observe.objects import frames, looked_up, reading

__all__ = ["Declared", "written"]


def written(name: str) -> str:
    """Return a path in the one spelling that the interpreter gives it."""
    try:
        return ast.unparse(ast.parse(name, mode="eval"))
    except (SyntaxError, ValueError):
        return name


class Declared:
    """The losses and models that a policy names, and the parameters of those models.

    Attributes:
        policy: The policy.
        losses: The names of losses and terms.
        models: For each name of a model the parameters it was found to stand for.

    Args:
        policy: What the author declares; nothing by default.
    """

    def __init__(self, policy: Policy | None = None) -> None:
        """Take the names from a policy."""
        self.policy = policy if policy is not None else Policy({})
        self.losses = list(self.policy)
        names = {name for rule in self.policy.rules.values() for name in rule.patterns}
        self.models: dict[str, int] = dict.fromkeys(sorted(names), 0)

    def resolve(self, frame: FrameType | None, census: Census) -> None:
        """Look the names of models up in the calling frames."""
        if not self.models:
            return
        for current in frames(frame, 8):
            with reading(current) as variables:
                for name in self.models:
                    value = looked_up(name, variables, current.f_globals)
                    self.models[name] |= _mask(value, census)
                    del value
            del variables


def _mask(value: object, census: Census) -> int:
    if isinstance(value, nn.Module):
        branch = census.enter(value) if "_parameters" in value.__dict__ else None
        return branch.mask if branch is not None else 0
    if isinstance(value, nn.Parameter) or (isinstance(value, Tensor) and census.is_held(value)):
        return 1 << census.take(value)
    parts: Iterable[object] = ()
    if type(value) is dict:
        parts = list(value.values())
    elif isinstance(value, list | tuple):
        parts = list(value[:64])
    mask = 0
    for part in parts:
        if isinstance(part, nn.Module | nn.Parameter):
            mask |= _mask(part, census)
    return mask

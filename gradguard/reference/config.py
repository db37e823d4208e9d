"""The settings of a run, checked where they are made."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

__all__ = ["Settings", "SettingsError"]


class SettingsError(ValueError):
    """Raised when settings make no run: a bad value, a missing device, a folder in use."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """What a value must be, in words and as a test."""

    words: str
    holds: Callable[[Any], bool]
    names: tuple[str, ...] = ()


def _setting(default: Any, rule: _Rule, meaning: str, *, shapes: bool = True) -> Any:
    """Declare a setting; ``shapes`` says whether another value makes it another run."""
    return field(default=default, metadata={"rule": rule, "help": meaning, "shapes": shapes})


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _whole(least: int) -> _Rule:
    return _Rule(f"a whole number of at least {least}", lambda value: _is_whole(value, least))


def _choice(*names: str) -> _Rule:
    return _Rule("one of " + ", ".join(names), lambda value: value in names, names)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_POSITIVE = _Rule("a number above 0", lambda value: _is_number(value) and value > 0)
_FRACTION = _Rule("a number from 0 up to, not including, 1", lambda v: _is_number(v) and 0 <= v < 1)
_FLAG = _Rule("true or false", lambda value: isinstance(value, bool))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that decides a run, besides the pair of models and the data.

    A step is ``n_critic`` updates of the critic and one of the generator.

    Raises:
        SettingsError: If a value is out of its range; the message names every such setting.

    Example:
        >>> Settings(steps=100, n_critic=5).n_critic
        5
    """

    device: str = _setting("cpu", _choice("cpu", "cuda"), "Where to train.")
    steps: int = _setting(2000, _whole(1), "Generator updates to make.")
    seed: int = _setting(0, _whole(0), "Seed of the weights, the data and the noise.")
    batch: int = _setting(64, _whole(1), "Samples in a batch.")
    latent: int = _setting(2, _whole(1), "Numbers of noise for one sample.")
    width: int = _setting(128, _whole(1), "Units in a hidden layer.")
    depth: int = _setting(3, _whole(1), "Hidden layers in each model.")
    n_critic: int = _setting(2, _whole(1), "Critic updates for each generator update.")
    critic_lr: float = _setting(3e-3, _POSITIVE, "Learning rate of the critic.")
    generator_lr: float = _setting(2e-3, _POSITIVE, "Learning rate of the generator.")
    smoothing: float = _setting(0.9, _FRACTION, "RMSprop's memory of squared gradients.")
    decay: bool = _setting(True, _FLAG, "Let the learning rates fall to 0 over the run.")
    constraint: str = _setting(
        "penalty", _choice("penalty", "clip"), "What keeps the critic's slope bounded."
    )
    penalty: float = _setting(0.3, _POSITIVE, "Weight of the gradient penalty.")
    clip: float = _setting(0.1, _POSITIVE, "Largest weight of the critic under clipping.")
    reuse_fake: bool = _setting(
        True, _FLAG, "Let the generator step reuse the samples of the last critic step."
    )
    amp: str = _setting(
        "off", _choice("off", "bfloat16", "float16"), "Precision of the models' calls."
    )
    threads: int = _setting(1, _whole(1), "CPU threads; these models are too small for two.")
    log_every: int = _setting(50, _whole(1), "Steps between two reads of the losses.", shapes=False)
    checkpoint_every: int = _setting(500, _whole(1), "Steps between two checkpoints.", shapes=False)
    guard: bool = _setting(True, _FLAG, "Watch which loss trains which model.", shapes=False)
    plant_leak: bool = _setting(False, _FLAG, "Leave the critic's detach out, to see it caught.")

    def __post_init__(self) -> None:
        wrong = [
            f"{item.name} must be {item.metadata['rule'].words}, got {value!r}"
            for item in fields(self)
            if not item.metadata["rule"].holds(value := getattr(self, item.name))
        ]
        if wrong:
            raise SettingsError("; ".join(wrong))

    def to_dict(self) -> dict[str, Any]:
        """Give every setting by name, as plain values."""
        return asdict(self)

    def require_same_run(self, other: dict[str, Any]) -> None:
        """Refuse to go on with the run that ``other`` describes unless it is this one.

        Args:
            other: What ``to_dict`` gave for the earlier run.

        Raises:
            SettingsError: If a setting that shapes the run differs.
        """
        differing = [
            f"{item.name} was {other.get(item.name, MISSING)!r}, is {getattr(self, item.name)!r}"
            for item in fields(self)
            if item.metadata["shapes"] and other.get(item.name, MISSING) != getattr(self, item.name)
        ]
        if differing:
            raise SettingsError("the checkpoint is of another run: " + "; ".join(differing))

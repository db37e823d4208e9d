"""The environment interfaces of 2022 and 2023 on today's gymnasium.

The programs that are measured were written for gym 0.23 and gymnasium 0.28. Both differ from
today's gymnasium in what ``reset`` and ``step`` of vectors of environments return, and only that is
put back here. At the end a program prints a checksum of what it has trained.
"""

from __future__ import annotations

import atexit
import hashlib
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

__all__ = ["CHECKSUM", "Env", "make", "spaces", "vector", "wrappers"]

CHECKSUM = "checksum of all weights:"


class Env:
    """One environment with the seed of its next reset, and the return of its episode."""

    def __init__(self, name: str) -> None:
        """Make the environment."""
        self.inner = gymnasium.make(name)
        self.action_space = self.inner.action_space
        self.observation_space = self.inner.observation_space
        self.next_seed: int | None = None
        self.total, self.length = 0.0, 0

    def seed(self, seed: int) -> None:
        """Keep the seed for the next reset, as gym 0.23 does."""
        self.next_seed = seed

    def reset(self) -> Any:
        """Begin an episode."""
        self.total, self.length = 0.0, 0
        seed, self.next_seed = self.next_seed, None
        return self.inner.reset(seed=seed)[0]

    def step(self, action: Any) -> tuple[Any, float, bool, bool]:
        """Take an action."""
        seen, reward, terminated, truncated, _ = self.inner.step(action)
        self.total, self.length = self.total + float(reward), self.length + 1
        return seen, float(reward), terminated, truncated

    @property
    def episode(self) -> dict[str, Any]:
        """What the wrapper for statistics tells of an episode."""
        return {"r": self.total, "l": self.length}


class _Envs:
    """Environments that step together, each reset in the step in which its episode ends."""

    def __init__(self, makers: list[Callable[[], Env]]) -> None:
        self.envs = [maker() for maker in makers]
        self.num_envs = len(self.envs)
        self.single_action_space: Any = self.envs[0].action_space
        self.single_observation_space: Any = self.envs[0].observation_space
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def _step(self, actions: Any) -> tuple[Any, Any, Any, Any, list[dict[str, Any]]]:
        rows = [env.step(action) for env, action in zip(self.envs, actions, strict=True)]
        seen, infos = [], []
        for env, (state, _, terminated, truncated) in zip(self.envs, rows, strict=True):
            over = terminated or truncated
            infos.append({"episode": env.episode, "last": state} if over else {})
            seen.append(env.reset() if over else state)
        rewards, ended, cut = (np.array(column) for column in list(zip(*rows, strict=True))[1:])
        return np.stack(seen).astype(np.float32), rewards, ended, cut, infos

    def close(self) -> None:
        """Close them all."""
        for env in self.envs:
            env.inner.close()


class OldEnvs(_Envs):
    """As in gym 0.23."""

    def reset(self) -> Any:
        """Return observations."""
        return np.stack([env.reset() for env in self.envs]).astype(np.float32)

    def step(self, actions: Any) -> tuple[Any, Any, Any, list[dict[str, Any]]]:
        """Return observations, rewards, what has ended, and one dictionary for each."""
        seen, rewards, ended, cut, infos = self._step(actions)
        for info in infos:
            if "last" in info:
                info["terminal_observation"] = info.pop("last")
        for info, truncated in zip(infos, cut, strict=True):
            info["TimeLimit.truncated"] = bool(truncated)
        return seen, rewards, ended | cut, infos


class Envs(_Envs):
    """As in gymnasium 0.28."""

    def reset(self, seed: int | None = None) -> tuple[Any, dict[str, Any]]:
        """Return observations and an empty dictionary."""
        for number, env in enumerate(self.envs):
            if seed is not None:
                env.seed(seed + number)
        return np.stack([env.reset() for env in self.envs]).astype(np.float32), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Return observations, rewards, what has ended, what was cut off, and a dictionary."""
        seen, rewards, ended, cut, infos = self._step(actions)
        told: dict[str, Any] = {}
        if any(infos):
            told["final_info"] = [info for info in infos if info]
            told["final_observation"] = [info.get("last") for info in infos]
        return seen, rewards, ended, cut, told


def make(name: str, **_: Any) -> Env:
    """Make an environment."""
    return Env(name)


def _old() -> bool:
    """Say whether the program that runs was written for gym rather than gymnasium."""
    return bool(vars(sys.modules["__main__"]).get("WRITTEN_FOR_GYM"))


def _envs(makers: list[Callable[[], Env]]) -> _Envs:
    return OldEnvs(makers) if _old() else Envs(makers)


def _same(env: Env, *_: Any) -> Env:
    return env


vector = SimpleNamespace(SyncVectorEnv=_envs)
wrappers = SimpleNamespace(RecordEpisodeStatistics=_same, RecordVideo=_same)


def _tell() -> None:
    digest = hashlib.sha256()
    for name, value in sorted(vars(sys.modules["__main__"]).items()):
        if isinstance(value, torch.nn.Module):
            tensors = {f"{name}.{key}": one for key, one in value.state_dict().items()}
        elif isinstance(value, torch.Tensor):
            tensors = {name: value}
        else:
            continue
        for key, one in tensors.items():
            digest.update(key.encode())
            digest.update(one.detach().cpu().contiguous().numpy().tobytes())
    print(CHECKSUM, digest.hexdigest())


atexit.register(_tell)

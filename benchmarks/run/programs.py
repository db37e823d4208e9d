"""The programs that are measured: the single-file scripts of cleanrl 1.2.0, on the CPU."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PROGRAMS", "Program", "prepare", "published"]

_IMPORT = re.compile(r"^import gym(nasium as gym)?$", re.MULTILINE)
_HOW = (
    "cleanrl 1.2.0 is not here: pip install --no-deps --ignore-requires-python cleanrl==1.2.0, "
    "or name the folder of its scripts with --folder"
)


@dataclass(frozen=True)
class Program:
    """A script, and how it is run.

    Attributes:
        name: What it is called in the table.
        script: Its file.
        arguments: What it is given; the rest is as its authors left it.
        quick: The number of steps of the environment where little time is to be spent.
    """

    name: str
    script: str
    arguments: tuple[str, ...]
    steps: int
    quick: int


_OFF = ("--env-id", "Pendulum-v1", "--learning-starts", "500", "--buffer-size", "20000")

PROGRAMS = (
    Program(
        "DQN",
        "dqn.py",
        ("--env-id", "CartPole-v1", "--learning-starts", "500", "--train-frequency", "1"),
        12_000,
        4_000,
    ),
    Program("DDPG", "ddpg_continuous_action.py", _OFF, 4_000, 1_500),
    Program("TD3", "td3_continuous_action.py", _OFF, 4_000, 1_500),
    Program("SAC", "sac_continuous_action.py", _OFF, 2_500, 1_100),
    Program("PPO", "ppo.py", ("--env-id", "CartPole-v1"), 40_000, 12_000),
)


def published() -> Path:
    """Return the folder of the scripts.

    Raises:
        LookupError: If cleanrl is not installed.
    """
    spec = importlib.util.find_spec("cleanrl")
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not places:
        raise LookupError(_HOW)
    return Path(places[0])


def prepare(program: Program, source: Path, folder: Path) -> Path:
    """Copy a script, with another module in the place of gym.

    Raises:
        LookupError: If there is no such script, or it does not import gym as expected.
    """
    path = source / program.script
    if not path.is_file():
        raise LookupError(f"{source} has no {program.script}: {_HOW}")
    text = path.read_text(encoding="utf-8")
    found = _IMPORT.search(text)
    if found is None:
        raise LookupError(f"{path} does not import gym as cleanrl 1.2.0 does")
    old = found[1] is None
    line = f"import benchmarks.run.environments as gym; WRITTEN_FOR_GYM = {old}"
    copy = folder / program.script
    copy.write_text(text[: found.start()] + line + text[found.end() :], encoding="utf-8")
    return copy

"""What the tests of the reference loop share: small runs, and equality to the last bit."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from gradguard.reference import Settings, Trainer


def small(**changes: Any) -> Settings:
    """Settings of a run that takes milliseconds."""
    return Settings(**{"steps": 6, "batch": 8, "width": 8, "depth": 2, **changes})


def in_words(changes: dict[str, Any]) -> str:
    """Name settings for a test's id."""
    return ",".join(f"{name}={value}" for name, value in changes.items()) or "default"


def same_bits(left: Any, right: Any) -> bool:
    """Whether two states are the same values of the same types, to the last bit."""
    if type(left) is not type(right):
        return False
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same_bits(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same_bits, left, right))
    return bool(left == right)


def outcome(trainer: Trainer, **ignored: Any) -> dict[str, Any]:
    """Copy all that a run left, besides the settings named in ``ignored``."""
    state = copy.deepcopy(trainer.state_dict())
    return {**state, "settings": {**state["settings"], **ignored}}


def gradients(model: torch.nn.Module) -> list[torch.Tensor]:
    """Copies of a model's gradients."""
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


# A test run in the background teaches its children to ignore Control-C.
_HEARS_CONTROL_C = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("gradguard.reference", run_name="__main__", alter_sys=True)
"""


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    """Start the command line as a user does."""
    return subprocess.Popen(
        [sys.executable, "-c", _HEARS_CONTROL_C, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )


def call(*arguments: str | Path) -> tuple[int, str, str]:
    """Run the command line, and return its exit status, its output and its errors."""
    process = start(*arguments)
    output, errors = process.communicate(timeout=300)
    return process.returncode, output, errors

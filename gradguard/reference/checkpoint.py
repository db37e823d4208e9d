"""Checkpoints that are there whole or not at all."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

__all__ = ["CheckpointError", "load", "save"]

_FORMAT = 1


class CheckpointError(ValueError):
    """Raised when a file is no checkpoint of this loop, or cannot be read."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint, keeping the one before until the new one is safely on the disk.

    Args:
        path: The file to replace.
        state: Tensors and plain values.
    """
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        with unfinished.open("wb") as file:
            torch.save({"format": _FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    _sync_folder(path.parent)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint, onto the CPU and without running any code in it.

    Raises:
        CheckpointError: If there is none at ``path``, or it is none of ours.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint at {path}") from None
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {error}") from error
    if not isinstance(state, dict) or state.pop("format", None) != _FORMAT:
        raise CheckpointError(f"{path} is no checkpoint of this loop")
    return state


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where folders can be synced."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

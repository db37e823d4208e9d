"""One picture of a run: where the samples lie, and how the losses went."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["available", "draw"]

_INK, _PALE = "#333333", "#c9c9c9"
_COLOURS = ("#1b6ca8", "#c8553d")


def available() -> bool:
    """Say whether the plotting library is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(
    path: Path,
    *,
    real: Tensor,
    generated: Tensor,
    losses: Mapping[str, Sequence[float]],
    title: str,
) -> None:
    """Write the picture as a PNG.

    Args:
        path: The file to write.
        real: Points of the data, ``(count, 2)``.
        generated: Points that the generator made, ``(count, 2)``.
        losses: Each loss's value at every step.
        title: What to write above.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), dpi=120, layout="constrained")
    figure.suptitle(title, color=_INK)
    plane, curves = figure.subplots(1, 2)

    plane.scatter(*real.T, s=14, color=_PALE, linewidths=0, label="data")
    plane.scatter(*generated.T, s=3, color=_COLOURS[0], alpha=0.5, linewidths=0, label="generated")
    plane.set(title="samples", aspect="equal")
    plane.legend(loc="center", frameon=False, markerscale=2)

    for (name, values), colour in zip(losses.items(), _COLOURS, strict=True):
        window = max(1, len(values) // 100)
        curves.plot(range(1, len(values) + 1), values, color=colour, alpha=0.2, linewidth=0.6)
        smooth = _smooth(values, window)
        curves.plot(range(window, len(values) + 1), smooth, color=colour, label=name)
    curves.set(title="losses", xlabel="step")
    curves.legend(loc="upper right", frameon=False)

    for axes in (plane, curves):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=_INK, labelsize=8)
    figure.savefig(path, format="png")


def _smooth(values: Sequence[float], window: int) -> list[float]:
    """Average over a sliding window."""
    averages: list[float] = torch.tensor(values).unfold(0, window, 1).mean(dim=1).tolist()
    return averages

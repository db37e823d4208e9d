"""The two usual ways to keep a Wasserstein critic's slope bounded."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["clip_weights", "gradient_penalty"]


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """Measure how far the critic's slope is from 1 between real and generated samples.

    Args:
        critic: The model that scores samples.
        real: Real samples, ``(batch, ...)``.
        fake: Generated samples without a graph, shaped like ``real``.
        mix: Where between the two to look, in [0, 1], broadcastable to them.

    Returns:
        The mean squared deviation of the slope's norm from 1, differentiable by the critic.
    """
    between = torch.lerp(real, fake, mix).requires_grad_()
    score = critic(between)
    (slope,) = torch.autograd.grad(score.sum(), between, create_graph=True)
    norm: Tensor = torch.linalg.vector_norm(slope.flatten(1), dim=1)
    return (norm - 1).square().mean()


@torch.no_grad()
def clip_weights(model: nn.Module, limit: float) -> None:
    """Cut every parameter to ``[-limit, limit]``, in place."""
    for parameter in model.parameters():
        parameter.clamp_(-limit, limit)

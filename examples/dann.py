"""DANN: features that tell the classes apart and the domains not, by reversing one gradient.

The domain loss has to reach the features, that is the whole method; so the policy says `must`. The
terms of the joint loss need no naming: they are known by their variables.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import gradguard

BATCH, PIXELS, WIDTH, CLASSES, STRENGTH = 16, 12, 8, 3, 0.5

POLICY = {
    "label_loss": ["features", "label_head"],
    "domain_loss": gradguard.must("features", "domain_head") | gradguard.never("label_head"),
}


class ReverseGradient(torch.autograd.Function):
    """The identity, with the gradient turned round."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, strength: float) -> torch.Tensor:
        """Pass x on."""
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Push the layers below against the loss."""
        return -ctx.strength * grad, None


def build() -> dict[str, Any]:
    """Make the features and the two heads, the same ones at every call."""
    torch.manual_seed(0)
    return {
        "features": nn.Sequential(nn.Linear(PIXELS, 16), nn.ReLU(), nn.Linear(16, WIDTH)),
        "label_head": nn.Linear(WIDTH, CLASSES),
        "domain_head": nn.Sequential(nn.Linear(WIDTH, 8), nn.ReLU(), nn.Linear(8, 2)),
    }


def train(
    models: dict[str, Any], guard: gradguard.Guard, steps: int = 5
) -> list[torch.optim.Optimizer]:
    """Train on labelled source and unlabelled, shifted target images; return the optimizers."""
    features, label_head = models["features"], models["label_head"]
    domain_head = models["domain_head"]
    optimizer = torch.optim.Adam(
        [*features.parameters(), *label_head.parameters(), *domain_head.parameters()], lr=1e-2
    )
    domains = torch.arange(2).repeat_interleave(BATCH)
    with guard:
        for _ in range(steps):
            source, target = torch.randn(BATCH, PIXELS), torch.randn(BATCH, PIXELS) + 1
            labels = source[:, :CLASSES].argmax(dim=1)

            hidden = features(torch.cat([source, target]))
            label_loss = F.cross_entropy(label_head(hidden[:BATCH]), labels)
            reversed_hidden = ReverseGradient.apply(hidden, STRENGTH)
            domain_loss = F.cross_entropy(domain_head(reversed_hidden), domains)
            optimizer.zero_grad()
            (label_loss + domain_loss).backward()
            optimizer.step()
    return [optimizer]


def main() -> None:
    """Train under guard, then say what was found and what reached what."""
    models = build()
    guard = gradguard.Guard(models, POLICY, on_violation="record")
    train(models, guard)
    print(*(guard.findings or ["no findings"]), sep="\n")
    print(guard.flow)


if __name__ == "__main__":
    main()

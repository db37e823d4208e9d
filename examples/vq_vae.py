"""VQ-VAE: three terms in one backward, each meant for a different part of the model.

The straight-through tensor has the codebook's values and the encoder's gradient, so a codebook loss
computed on it never trains the codebook. A joint loss hides that; `guard.watch` names its terms.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import gradguard

BATCH, PIXELS, CODES, WIDTH, BETA = 16, 12, 8, 4, 0.25

POLICY = {
    "recon_loss": ["encoder", "decoder"],
    "codebook_loss": "codebook",
    "commitment_loss": "encoder",
}


def build() -> dict[str, Any]:
    """Make encoder, codebook and decoder, the same ones at every call."""
    torch.manual_seed(0)
    return {
        "encoder": nn.Sequential(nn.Linear(PIXELS, 16), nn.ReLU(), nn.Linear(16, WIDTH)),
        "codebook": nn.Embedding(CODES, WIDTH),
        "decoder": nn.Sequential(nn.Linear(WIDTH, 16), nn.ReLU(), nn.Linear(16, PIXELS)),
    }


def vq_losses(
    encoder: nn.Module, codebook: nn.Embedding, decoder: nn.Module, images: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Compute the three terms for images of shape (BATCH, PIXELS)."""
    latent = encoder(images)
    quantized = codebook(torch.cdist(latent, codebook.weight).argmin(dim=1))
    straight_through = latent + (quantized - latent).detach()
    return {
        "recon_loss": F.mse_loss(decoder(straight_through), images),
        "codebook_loss": F.mse_loss(quantized, latent.detach()),
        "commitment_loss": BETA * F.mse_loss(latent, quantized.detach()),
    }


def train(
    models: dict[str, Any], guard: gradguard.Guard, steps: int = 5
) -> list[torch.optim.Optimizer]:
    """Train all three parts with one optimizer on random images, and return the optimizers."""
    parts = [models["encoder"], models["codebook"], models["decoder"]]
    optimizer = torch.optim.Adam([p for part in parts for p in part.parameters()], lr=1e-2)
    with guard:
        for _ in range(steps):
            losses = vq_losses(*parts, torch.randn(BATCH, PIXELS))
            guard.watch(losses)
            optimizer.zero_grad()
            sum(losses.values()).backward()
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

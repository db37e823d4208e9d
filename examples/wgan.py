"""WGAN: the critic learns from the generator's samples, and the generator must not learn from that.

Detaching the samples keeps the critic's loss out of the generator. The generator's own loss has to
pass through the critic; `gradguard.backward(into=)` keeps it from being written there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import gradguard

BATCH, LATENT, N_CRITIC, CLIP = 32, 4, 2, 0.05

POLICY = {"critic_loss": "critic", "generator_loss": "generator"}


def build() -> dict[str, Any]:
    """Make the two models, the same ones at every call."""
    torch.manual_seed(0)
    return {
        "generator": nn.Sequential(nn.Linear(LATENT, 16), nn.ReLU(), nn.Linear(16, 2)),
        "critic": nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1)),
    }


def real_samples() -> torch.Tensor:
    """Draw a batch of shape (BATCH, 2) around the point (2, -1)."""
    return torch.tensor([2.0, -1.0]) + 0.1 * torch.randn(BATCH, 2)


def train(
    models: dict[str, Any], guard: gradguard.Guard, steps: int = 5
) -> list[torch.optim.Optimizer]:
    """Alternate N_CRITIC critic updates with one generator update, and return the optimizers."""
    generator, critic = models["generator"], models["critic"]
    generator_opt = torch.optim.RMSprop(generator.parameters(), lr=1e-3)
    critic_opt = torch.optim.RMSprop(critic.parameters(), lr=1e-3)
    with guard:
        for _ in range(steps):
            for _ in range(N_CRITIC):
                fake = generator(torch.randn(BATCH, LATENT))
                score_fake = critic(fake.detach())
                critic_loss = score_fake.mean() - critic(real_samples()).mean()
                critic_opt.zero_grad()
                critic_loss.backward()
                critic_opt.step()
                with torch.no_grad():
                    for parameter in critic.parameters():
                        parameter.clamp_(-CLIP, CLIP)

            generator_loss = -critic(generator(torch.randn(BATCH, LATENT))).mean()
            generator_opt.zero_grad()
            gradguard.backward(generator_loss, into=generator)
            generator_opt.step()
    return [generator_opt, critic_opt]


def main() -> None:
    """Train under guard, then say what was found and what reached what."""
    models = build()
    guard = gradguard.Guard(models, POLICY, on_violation="record")
    train(models, guard)
    print(*(guard.findings or ["no findings"]), sep="\n")
    print(guard.flow)


if __name__ == "__main__":
    main()

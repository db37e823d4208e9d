"""SAC: critic, actor and temperature learn from three losses; the temperature is a bare parameter.

It weighs the entropy in the critic's target and in the actor's loss, and only its own loss may
move it: the target belongs under `no_grad`, whole. One critic instead of two keeps it short.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import gradguard

BATCH, OBS, ACT, GAMMA, TAU = 16, 4, 2, 0.99, 0.05
TARGET_ENTROPY = -float(ACT)

POLICY = {"critic_loss": "critic", "actor_loss": "actor", "alpha_loss": "log_alpha"}


def build() -> dict[str, Any]:
    """Make actor, critic, its slow copy and the temperature, the same ones at every call."""
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(OBS + ACT, 16), nn.ReLU(), nn.Linear(16, 1), nn.Flatten(0))
    return {
        "actor": nn.Sequential(nn.Linear(OBS, 16), nn.ReLU(), nn.Linear(16, 2 * ACT)),
        "critic": critic,
        "target_critic": copy.deepcopy(critic),
        "log_alpha": nn.Parameter(torch.zeros(())),
    }


def act(actor: nn.Module, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample a squashed Gaussian action for each observation, with its log-probability."""
    mean, log_std = actor(obs).chunk(2, dim=-1)
    normal = torch.distributions.Normal(mean, log_std.clamp(-5, 2).exp())
    raw = normal.rsample()
    log_prob = normal.log_prob(raw) - torch.log(1 - torch.tanh(raw) ** 2 + 1e-6)
    return torch.tanh(raw), log_prob.sum(dim=-1)


def train(
    models: dict[str, Any], guard: gradguard.Guard, steps: int = 5
) -> list[torch.optim.Optimizer]:
    """Update all three on one random batch a step, and return the optimizers."""
    actor, critic, target_critic = models["actor"], models["critic"], models["target_critic"]
    log_alpha = models["log_alpha"]
    actor_opt = torch.optim.Adam(actor.parameters(), lr=1e-3)
    critic_opt = torch.optim.Adam(critic.parameters(), lr=1e-3)
    alpha_opt = torch.optim.Adam([log_alpha], lr=1e-2)
    with guard:
        for _ in range(steps):
            obs, next_obs = torch.randn(2, BATCH, OBS)
            action, reward = torch.rand(BATCH, ACT) * 2 - 1, torch.randn(BATCH)
            for optimizer in (actor_opt, critic_opt, alpha_opt):
                optimizer.zero_grad()

            with torch.no_grad():
                next_action, next_log_prob = act(actor, next_obs)
                next_q = target_critic(torch.cat([next_obs, next_action], dim=1))
            target = reward + GAMMA * (next_q - log_alpha.exp() * next_log_prob)
            critic_loss = F.mse_loss(critic(torch.cat([obs, action], dim=1)), target)
            critic_loss.backward()
            critic_opt.step()

            new_action, log_prob = act(actor, obs)
            q = critic(torch.cat([obs, new_action], dim=1))
            actor_loss = (log_alpha.exp().detach() * log_prob - q).mean()
            guard.backward(actor_loss, "actor_loss")
            actor_opt.step()

            alpha_loss = -(log_alpha.exp() * (log_prob + TARGET_ENTROPY).detach()).mean()
            alpha_loss.backward()
            alpha_opt.step()

            with torch.no_grad():
                for slow, fast in zip(target_critic.parameters(), critic.parameters(), strict=True):
                    slow.lerp_(fast, TAU)
    return [actor_opt, critic_opt, alpha_opt]


def main() -> None:
    """Train under guard, then say what was found and what reached what."""
    models = build()
    guard = gradguard.Guard(models, POLICY, on_violation="record")
    train(models, guard)
    print(*(guard.findings or ["no findings"]), sep="\n")
    print(guard.flow)


if __name__ == "__main__":
    main()

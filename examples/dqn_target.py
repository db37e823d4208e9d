"""Double DQN: the target network supplies numbers to regress to, and takes no gradient.

It is a copy that no optimizer holds, so a gradient that flows into it changes nothing; it only
costs a backward pass through a second network at every step, which is why nobody notices.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import gradguard

BATCH, OBS, ACTIONS, GAMMA, SYNC_EVERY = 16, 4, 3, 0.99, 2

POLICY = {"td_loss": "q_net"}


def build() -> dict[str, Any]:
    """Make the online network and its copy, the same ones at every call."""
    torch.manual_seed(0)
    q_net = nn.Sequential(nn.Linear(OBS, 16), nn.ReLU(), nn.Linear(16, ACTIONS))
    return {"q_net": q_net, "target_net": copy.deepcopy(q_net)}


@torch.no_grad()
def td_target(
    q_net: nn.Module, target_net: nn.Module, reward: torch.Tensor, next_obs: torch.Tensor
) -> torch.Tensor:
    """Value the next state: the online network picks the action, the target network rates it."""
    best = q_net(next_obs).argmax(dim=1, keepdim=True)
    next_q = target_net(next_obs).gather(1, best).squeeze(1)
    return reward + GAMMA * next_q


def train(
    models: dict[str, Any], guard: gradguard.Guard, steps: int = 5
) -> list[torch.optim.Optimizer]:
    """Regress on one random batch a step, copy the weights now and then, return the optimizers."""
    q_net, target_net = models["q_net"], models["target_net"]
    optimizer = torch.optim.Adam(q_net.parameters(), lr=1e-3)
    with guard:
        for step in range(steps):
            obs, next_obs = torch.randn(2, BATCH, OBS)
            action, reward = torch.randint(ACTIONS, (BATCH, 1)), torch.randn(BATCH)

            target = td_target(q_net, target_net, reward, next_obs)
            td_loss = F.smooth_l1_loss(q_net(obs).gather(1, action).squeeze(1), target)
            optimizer.zero_grad()
            td_loss.backward()
            optimizer.step()

            if step % SYNC_EVERY == 0:
                target_net.load_state_dict(q_net.state_dict())
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

from collections import namedtuple

import torch
from torch import nn
from torch.distributions import Normal

Step = namedtuple("Step", "obs action logp ret")


class Policy(nn.Module):
    def __init__(self, obs=5, act=2):
        super().__init__()
        self.mu = nn.Sequential(nn.Linear(obs, 16), nn.Tanh(), nn.Linear(16, act))
        self.log_std = nn.Parameter(-0.5 * torch.ones(act))

    def dist(self, obs):
        return Normal(self.mu(obs), self.log_std.exp())


class Memory:
    def __init__(self):
        self.steps = []

    def push(self, *args):
        self.steps.append(Step(*args))

    def stacked(self):
        return [torch.stack(part) for part in zip(*self.steps)]

    def clear(self):
        del self.steps[:]


def act(policy, obs):
    dist = policy.dist(obs)
    action = dist.sample()
    return action, dist.log_prob(action).sum(-1).detach()


def update(policy, optimizer, memory, eps=0.2):
    obs, action, old_logp, ret = memory.stacked()
    logp = policy.dist(obs).log_prob(action).sum(-1)
    ratio = torch.exp(logp - old_logp)
    adv = (ret - ret.mean()) / (ret.std() + 1e-6)
    loss = -torch.min(ratio * adv, ratio.clamp(1 - eps, 1 + eps) * adv).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    memory.clear()
    return loss.item()


if __name__ == "__main__":
    torch.manual_seed(16)
    policy, memory = Policy(), Memory()
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-4)
    for it in range(3):
        for _ in range(8):
            obs = torch.randn(5)
            action, logp = act(policy, obs)
            memory.push(obs, action, logp, torch.randn(()))
        print(it, update(policy, optimizer, memory))

import copy

import torch
import torch.nn.functional as F
from torch import nn


class Agent(nn.Module):
    def __init__(self, obs=4, acts=3):
        super().__init__()
        self.q = nn.Sequential(nn.Linear(obs, 16), nn.ReLU(), nn.Linear(16, acts))
        self.q_target = copy.deepcopy(self.q)
        for p in self.q_target.parameters():
            p.requires_grad_(False)

    def sync(self, tau=0.05):
        for t, s in zip(self.q_target.parameters(), self.q.parameters()):
            t.data.lerp_(s.data, tau)


def td_loss(agent, s, a, r, s2, gamma=0.99):
    best = agent.q(s2).argmax(1, keepdim=True)
    target = r + gamma * agent.q_target(s2).gather(1, best)
    return F.mse_loss(agent.q(s).gather(1, a), target)


def main():
    torch.manual_seed(11)
    agent = Agent()
    optimizer = torch.optim.Adam([p for p in agent.parameters() if p.requires_grad], lr=1e-3)
    for _ in range(4):
        loss = td_loss(agent, torch.randn(8, 4), torch.randint(3, (8, 1)), torch.randn(8, 1), torch.randn(8, 4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        agent.sync()
        print(loss.item())


if __name__ == "__main__":
    main()

import copy
import random
from collections import deque

import torch
import torch.nn.functional as F
from torch import nn


class Agent:
    def __init__(self, obs=4, acts=3, gamma=0.99, lr=1e-3):
        self.online = nn.Sequential(nn.Linear(obs, 24), nn.ReLU(), nn.Linear(24, acts))
        self.target = copy.deepcopy(self.online)
        for p in self.target.parameters():
            p.requires_grad = False
        self.optimizer = torch.optim.Adam(self.online.parameters(), lr=lr)
        self.memory = deque(maxlen=100)
        self.gamma = gamma

    def remember(self, *transition):
        self.memory.append(transition)

    def sample(self, n=16):
        return [torch.stack(part) for part in zip(*random.sample(self.memory, n))]

    def learn(self):
        s, a, r, s2, done = self.sample()
        q = self.online(s).gather(1, a)
        with torch.no_grad():
            best = self.target(s2).argmax(1, keepdim=True)
        bootstrap = self.online(s2).gather(1, best).detach()
        y = r + self.gamma * (1 - done) * bootstrap
        loss = F.smooth_l1_loss(q, y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


if __name__ == "__main__":
    torch.manual_seed(26)
    random.seed(26)
    agent = Agent()
    for _ in range(40):
        agent.remember(torch.randn(4), torch.randint(3, (1,)), torch.randn(1), torch.randn(4), torch.zeros(1))
    for step in range(4):
        print(step, agent.learn())
        if step % 2:
            agent.target.load_state_dict(agent.online.state_dict())

import torch
from torch import nn


class Agent:
    def __init__(self, obs=5, act=2):
        self.pi = nn.Sequential(nn.Linear(obs, 16), nn.ReLU(), nn.Linear(16, act), nn.Tanh())
        self.q = nn.Sequential(nn.Linear(obs + act, 16), nn.ReLU(), nn.Linear(16, 1))
        self.pi_opt = torch.optim.Adam(self.pi.parameters(), lr=1e-3)
        self.q_opt = torch.optim.Adam(self.q.parameters(), lr=1e-3)

    def learn(self, s, a, y):
        self.pi_opt.zero_grad()
        pi_loss = -self.q(torch.cat([s, self.pi(s)], 1)).mean()
        pi_loss.backward()
        self.q_opt.zero_grad()
        q_loss = (self.q(torch.cat([s, a], 1)) - y).pow(2).mean()
        q_loss.backward()
        self.pi_opt.step()
        self.q_opt.step()
        return pi_loss.item(), q_loss.item()


if __name__ == "__main__":
    torch.manual_seed(0)
    agent = Agent()
    for _ in range(3):
        print(agent.learn(torch.randn(8, 5), torch.rand(8, 2), torch.randn(8, 1)))

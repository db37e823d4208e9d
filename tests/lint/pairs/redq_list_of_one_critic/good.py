import torch
import torch.nn.functional as F
from torch import nn


def make_q(dim=6):
    return nn.Sequential(nn.Linear(dim, 24), nn.ReLU(), nn.Linear(24, 1))


class Redq:
    def __init__(self, n=2, lr=3e-4):
        self.q_net_list = [make_q() for _ in range(n)]
        self.q_optimizer_list = [torch.optim.Adam(q.parameters(), lr=lr) for q in self.q_net_list]

    def train(self, sa, target):
        out = []
        for i, (q, opt) in enumerate(zip(self.q_net_list, self.q_optimizer_list)):
            mask = torch.rand(len(sa), 1).round()
            q_loss = (mask * F.mse_loss(q(sa), target, reduction="none")).mean()
            opt.zero_grad()
            q_loss.backward()
            opt.step()
            out.append(q_loss.item())
        return out


if __name__ == "__main__":
    torch.manual_seed(22)
    agent = Redq()
    for _ in range(3):
        print(agent.train(torch.randn(16, 6), torch.randn(16, 1)))

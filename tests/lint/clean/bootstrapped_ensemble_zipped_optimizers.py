import torch
import torch.nn.functional as F
from torch import nn


class Member(nn.Module):
    def __init__(self, prior_scale=3.0):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 20), nn.ReLU(), nn.Linear(20, 1))
        self.prior = nn.Sequential(nn.Linear(4, 20), nn.ReLU(), nn.Linear(20, 1)).requires_grad_(False)
        self.prior_scale = prior_scale

    def forward(self, x):
        return self.net(x) + self.prior_scale * self.prior(x)


class Ensemble:
    def __init__(self, size=3):
        self.members = [Member() for _ in range(size)]
        self.optimizers = [torch.optim.Adam(m.net.parameters(), lr=1e-3) for m in self.members]

    def update(self, x, y):
        for opt in self.optimizers:
            opt.zero_grad()
        losses = []
        for member in self.members:
            keep = torch.rand(len(x)) < 0.8
            loss = F.mse_loss(member(x[keep]), y[keep])
            loss.backward()
            losses.append(loss.item())
        for member, opt in zip(self.members, self.optimizers):
            nn.utils.clip_grad_norm_(member.parameters(), 10.0)
            opt.step()
        return losses


if __name__ == "__main__":
    torch.manual_seed(9)
    ensemble = Ensemble()
    for _ in range(3):
        print(ensemble.update(torch.randn(16, 4), torch.randn(16, 1)))

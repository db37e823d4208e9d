import copy

import torch
import torch.nn.functional as F
from torch import nn


def regression_loss(x, y):
    return 2 - 2 * (F.normalize(x, dim=-1) * F.normalize(y, dim=-1)).sum(-1)


class Learner(nn.Module):
    def __init__(self, encoder, dim=8, decay=0.99):
        super().__init__()
        self.online_encoder = encoder
        self.target_encoder = copy.deepcopy(encoder)
        self.predictor = nn.Sequential(nn.Linear(dim, 16), nn.ReLU(), nn.Linear(16, dim))
        self.decay = decay

    def update_moving_average(self):
        for current, ma in zip(self.online_encoder.parameters(), self.target_encoder.parameters()):
            ma.data = self.decay * ma.data + (1 - self.decay) * current.data

    def forward(self, x):
        one, two = x + 0.1 * torch.randn_like(x), x + 0.1 * torch.randn_like(x)
        p1 = self.predictor(self.online_encoder(one))
        p2 = self.predictor(self.online_encoder(two))
        z1, z2 = self.target_encoder(one), self.target_encoder(two)
        return (regression_loss(p1, z2) + regression_loss(p2, z1)).mean()


if __name__ == "__main__":
    torch.manual_seed(6)
    learner = Learner(nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 8)))
    opt = torch.optim.Adam(learner.parameters(), lr=3e-4)
    for _ in range(4):
        loss = learner(torch.randn(8, 12))
        opt.zero_grad()
        loss.backward()
        opt.step()
        learner.update_moving_average()
        print(loss.item())

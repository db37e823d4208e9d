import torch
from torch import nn
import torch.nn.functional as F


class SimSiam(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(10, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8))
        self.predictor = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 8))

    def forward(self, x1, x2):
        z1, z2 = self.encoder(x1), self.encoder(x2)
        return self.predictor(z1), self.predictor(z2), z1.detach(), z2.detach()


def D(p, z):
    return -F.cosine_similarity(p, z).mean()


torch.manual_seed(7)
model = SimSiam()
groups = [{"params": model.encoder.parameters(), "fix_lr": False}, {"params": model.predictor.parameters(), "fix_lr": True}]
optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.9, weight_decay=1e-4)
for _ in range(3):
    x = torch.randn(12, 10)
    p1, p2, z1, z2 = model(x + 0.1 * torch.randn_like(x), x + 0.1 * torch.randn_like(x))
    loss = 0.5 * (D(p1, z2) + D(p2, z1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item())

import torch
from torch import nn


def features():
    """Stand in for what comes out of a model zoo."""
    return [nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)]


class Frozen(nn.Module):
    def __init__(self, layers=features):
        super().__init__()
        self.body = nn.Sequential(*list(layers())[:-1]).eval()
        for parameter in self.body.parameters():
            parameter.requires_grad = False

    def forward(self, x):
        return self.body(x)


class Empty(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.ReLU())
        for parameter in self.body.parameters():
            parameter.requires_grad = False

    def forward(self, x):
        return self.body(x)


frozen, empty, model = Frozen(), Empty(), nn.Linear(4, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    x = torch.randn(8, 4)
    loss = (frozen(model(x)) - empty(frozen(x))).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

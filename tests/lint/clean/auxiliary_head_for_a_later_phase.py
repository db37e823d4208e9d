import torch
import torch.nn.functional as F
from torch import nn


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(10, 16), nn.ReLU())
        self.rotation = nn.Linear(16, 4)
        self.classifier = nn.Linear(16, 3)

    def forward(self, x, task):
        return getattr(self, task)(self.encoder(x))


def run_phase(model, optimizer, task, classes, steps=3):
    for _ in range(steps):
        x, y = torch.randn(8, 10), torch.randint(classes, (8,))
        loss = F.cross_entropy(model(x, task), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


if __name__ == "__main__":
    torch.manual_seed(8)
    model = TwoHeads()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    print(run_phase(model, optimizer, "rotation", 4))
    print(run_phase(model, optimizer, "classifier", 3))

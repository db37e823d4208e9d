import io

import torch
from torch import nn


class Backbone(nn.Module):
    def __init__(self, dim=12):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, dim), nn.ReLU(), nn.Linear(dim, dim))

    def forward(self, x):
        return self.layers(x)


class Classifier(nn.Module):
    def __init__(self, checkpoint):
        super().__init__()
        self.backbone = Backbone()
        self.backbone.load_state_dict(torch.load(checkpoint, weights_only=True))
        self.head = nn.Linear(12, 4)

    def forward(self, x):
        return self.head(self.backbone(x))


def main():
    torch.manual_seed(1)
    buffer = io.BytesIO()
    torch.save(Backbone().state_dict(), buffer)
    buffer.seek(0)
    model = Classifier(buffer)
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
    for _ in range(3):
        loss = nn.functional.cross_entropy(model(torch.randn(8, 8)), torch.randint(4, (8,)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(loss.item())


if __name__ == "__main__":
    main()

import torch
from torch import nn


class StagedNet(nn.Module):
    def __init__(self, n_in=9, width=20, n_out=3):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(n_in, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())
        self.head = nn.Linear(width, n_out)

    def forward(self, x):
        return self.head(self.trunk(x))


class ProgressiveFreezer:
    def __init__(self, net, freeze_at):
        self.net = net
        self.freeze_at = freeze_at
        self.frozen = False

    def on_step(self, step):
        if step == self.freeze_at and not self.frozen:
            self.net.trunk.requires_grad_(False)
            self.frozen = True

    def trainable(self):
        return self.net.head if self.frozen else self.net


def train(net, optimizer, freezer, batches):
    losses = []
    for step, (x, y) in enumerate(batches):
        freezer.on_step(step)
        loss = nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    torch.manual_seed(41)
    net = StagedNet()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    freezer = ProgressiveFreezer(net, freeze_at=3)
    batches = [(torch.randn(16, 9), torch.randint(3, (16,))) for _ in range(7)]
    before = net.trunk[0].weight.detach().clone()
    for i, value in enumerate(train(net, optimizer, freezer, batches)):
        print(i, round(value, 4))
    print("trunk moved", (net.trunk[0].weight - before).norm().item())

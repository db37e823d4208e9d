import torch
from torch import nn


class Schedule:
    def __init__(self, layers, at):
        self.layers, self.at = layers, at

    def step(self, epoch):
        for layer, when in zip(self.layers, self.at):
            if epoch >= when:
                for p in layer.parameters():
                    p.requires_grad_(False)
                    p.grad = None


def main():
    torch.manual_seed(7)
    first, second, head = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 2)
    model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), head)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    schedule = Schedule([first, second], [2, 3])
    for epoch in range(5):
        schedule.step(epoch)
        loss = nn.functional.cross_entropy(model(torch.randn(8, 6)), torch.randint(2, (8,)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(epoch, loss.item())


if __name__ == "__main__":
    main()

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        h = torch.relu(self.norm(self.conv(x)))
        return self.head(h.mean((2, 3)))


def fix(module):
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.GroupNorm(4, child.num_features))
        else:
            fix(child)
    return module


def main():
    torch.manual_seed(9)
    model = Net()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
    model = fix(model)
    loss_fn = nn.CrossEntropyLoss()
    for _ in range(4):
        x, y = torch.randn(6, 3, 8, 8), torch.randint(4, (6,))
        loss = loss_fn(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(loss.item())


if __name__ == "__main__":
    main()

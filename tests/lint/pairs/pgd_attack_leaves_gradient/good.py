import torch
import torch.nn as nn
import torch.nn.functional as F

from attacks import pgd_linf


class SmallCNN(nn.Module):
    def __init__(self, classes=5):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        self.fc = nn.Linear(6 * 9, classes)

    def forward(self, x):
        return self.fc(self.features(x))


def trades_free_loss(model, x, x_adv, y, beta=0.5):
    return (1 - beta) * F.cross_entropy(model(x), y) + beta * F.cross_entropy(model(x_adv), y)


def train(model, loader, optimizer, epoch, epsilon=0.1, steps=3):
    model.train()
    for batch_idx, (data, target) in enumerate(loader):
        data_adv = pgd_linf(model, data, target, epsilon, alpha=epsilon / 2, steps=steps)
        optimizer.zero_grad()
        loss = trades_free_loss(model, data, data_adv, target)
        loss.backward()
        optimizer.step()
        print(f"epoch {epoch} batch {batch_idx} loss {loss.item():.4f}")


@torch.no_grad()
def accuracy(model, loader):
    model.eval()
    hits = sum((model(x).argmax(1) == y).float().mean().item() for x, y in loader)
    return hits / len(loader)


if __name__ == "__main__":
    torch.manual_seed(45)
    model = SmallCNN()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=2e-4)
    loader = [(torch.rand(6, 1, 8, 8), torch.randint(5, (6,))) for _ in range(2)]
    for epoch in range(2):
        train(model, loader, optimizer, epoch)
    print(accuracy(model, loader))

import argparse

import torch
import torch.nn as nn


class CenterLoss(nn.Module):
    def __init__(self, num_classes=5, feat_dim=2):
        super().__init__()
        self.num_classes = num_classes
        self.centers = nn.Parameter(torch.randn(num_classes, feat_dim))

    def forward(self, x, labels):
        distmat = torch.cdist(x, self.centers).pow(2)
        mask = nn.functional.one_hot(labels, self.num_classes).bool()
        return distmat[mask].clamp(min=1e-12, max=1e12).mean()


class ConvNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 6, 3), nn.PReLU(), nn.MaxPool2d(2), nn.Flatten())
        self.fc1 = nn.Linear(6 * 9, 2)
        self.fc2 = nn.Linear(2, num_classes)

    def forward(self, x):
        feat = self.fc1(self.conv(x))
        return feat, self.fc2(feat)


parser = argparse.ArgumentParser("Center Loss Example")
parser.add_argument("--lr-model", type=float, default=0.01)
parser.add_argument("--lr-cent", type=float, default=0.5)
parser.add_argument("--weight-cent", type=float, default=0.1)
parser.add_argument("--max-epoch", type=int, default=2)


def train(model, criterion_xent, criterion_cent, optimizers, loader, weight_cent):
    model.train()
    for data, labels in loader:
        features, outputs = model(data)
        loss_xent = criterion_xent(outputs, labels)
        loss_cent = criterion_cent(features, labels) * weight_cent
        loss = loss_xent + loss_cent
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
    return loss_xent.item(), loss_cent.item()


def main(args):
    torch.manual_seed(22)
    model = ConvNet(5)
    criterion_xent = nn.CrossEntropyLoss()
    criterion_cent = CenterLoss()
    optimizers = [torch.optim.SGD(model.parameters(), lr=args.lr_model, momentum=0.9)]
    optimizers.append(torch.optim.SGD(criterion_cent.parameters(), lr=args.lr_cent))
    loader = [(torch.rand(8, 1, 8, 8), torch.randint(5, (8,))) for _ in range(3)]
    for epoch in range(args.max_epoch):
        print(epoch, train(model, criterion_xent, criterion_cent, optimizers, loader, args.weight_cent))


if __name__ == "__main__":
    main(parser.parse_args([]))

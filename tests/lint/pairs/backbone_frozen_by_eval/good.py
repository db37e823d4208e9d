import torch
from torch import nn


class MVSNet(nn.Module):
    def __init__(self, dim=6):
        super().__init__()
        self.mnasnet = nn.Sequential(nn.Conv2d(3, dim, 3, padding=1), nn.BatchNorm2d(dim), nn.ReLU())
        self.shrink = nn.Conv2d(dim, 4, 1)

    def forward(self, x):
        return self.shrink(self.mnasnet(x))


class DepthModule(nn.Module):
    def __init__(self, freeze_backbone=True, lr=1e-3):
        super().__init__()
        self.mvsnet = MVSNet()
        self.volume_net = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1))
        self.freeze_backbone = freeze_backbone
        self.lr = lr

    def train(self, mode=True):
        super().train(mode)
        if self.freeze_backbone:
            self.mvsnet.eval()
        return self

    def forward(self, images):
        return self.volume_net(self.mvsnet(images))

    def training_step(self, batch):
        images, depth = batch
        pred = self(images)
        valid = depth > 0
        return nn.functional.l1_loss(pred[valid], depth[valid])

    def configure_optimizers(self):
        groups = [{"params": self.volume_net.parameters()}]
        if not self.freeze_backbone:
            groups.append({"params": self.mvsnet.parameters(), "lr": self.lr * 0.1})
        optimizer = torch.optim.Adam(groups, lr=self.lr)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2)]


def fit(net, batches, epochs=2):
    (optimizer,), (scheduler,) = net.configure_optimizers()
    for epoch in range(epochs):
        net.train()
        for batch in batches:
            loss = net.training_step(batch)
            net.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
        print(epoch, loss.item())


if __name__ == "__main__":
    torch.manual_seed(21)
    fit(DepthModule(), [(torch.rand(2, 3, 6, 6), torch.rand(2, 1, 6, 6)) for _ in range(3)])

import torch
import torch.nn as nn
import torch.nn.functional as F


def conv_bn(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


class DeepLab(nn.Module):
    def __init__(self, n_classes=4, freeze_backbone=False):
        super().__init__()
        self.backbone = nn.Sequential(conv_bn(3, 8), nn.MaxPool2d(2), conv_bn(8, 8))
        self.aspp = nn.ModuleList([nn.Conv2d(8, 8, 3, padding=r, dilation=r) for r in (1, 2)])
        self.last_conv = nn.Conv2d(16, n_classes, 1)
        self.freeze_backbone = freeze_backbone
        if freeze_backbone:
            self.freeze()

    def freeze(self):
        for p in self.backbone.parameters():
            p.requires_grad_(False)

    def train(self, mode=True):
        super().train(mode)
        if self.freeze_backbone:
            self.backbone.eval()
        return self

    def forward(self, x):
        f = self.backbone(x)
        f = torch.cat([branch(f) for branch in self.aspp], dim=1)
        return F.interpolate(self.last_conv(f), size=x.shape[2:], mode="nearest")


class Trainer:
    def __init__(self, lr=7e-3):
        self.model = DeepLab(freeze_backbone=True)
        trainable = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(trainable, lr=lr, momentum=0.9, weight_decay=5e-4)
        self.criterion = nn.CrossEntropyLoss(ignore_index=255)

    def training(self, epoch, loader):
        model = self.model
        model.train()
        for image, target in loader:
            output = model(image)
            loss = self.criterion(output, target)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return loss.item()


if __name__ == "__main__":
    torch.manual_seed(17)
    trainer = Trainer()
    data = [(torch.rand(2, 3, 8, 8), torch.randint(4, (2, 8, 8))) for _ in range(3)]
    for epoch in range(2):
        print(epoch, trainer.training(epoch, data))

import torch
import torch.nn as nn


class DeepSupervision(nn.Module):
    def __init__(self, dim=10, classes=4, depth=3):
        super().__init__()
        self.stem = nn.Linear(12, dim)
        self.stages = nn.ModuleList([nn.Sequential(nn.Linear(dim, dim), nn.GELU()) for _ in range(depth)])
        self.head = nn.Linear(dim, classes)

    def forward(self, x):
        feats, x = [], self.stem(x)
        for stage in self.stages:
            x = x + stage(x)
            feats.append(x)
        return self.head(x), feats


class Engine:
    def __init__(self, classes=4, aux_weight=0.4):
        self.net = DeepSupervision(classes=classes)
        self.aux_heads = nn.ModuleList([nn.Linear(10, classes) for _ in self.net.stages])
        self.criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
        self.aux_weight = aux_weight
        self.optimizer = torch.optim.AdamW([
            {"params": self.net.parameters()},
            {"params": self.aux_heads.parameters(), "lr": 3e-3},
        ], lr=1e-3, weight_decay=0.0)
        self.meters = {}

    def aux_terms(self, feats, y):
        return [self.criterion(head(f), y) for head, f in zip(self.aux_heads, feats)]

    def step(self, x, y):
        logits, feats = self.net(x)
        main_loss = self.criterion(logits, y)
        losses = [term.item() for term in self.aux_terms(feats, y)]
        aux_loss = torch.tensor(losses).mean()
        total = main_loss + self.aux_weight * aux_loss
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        self.meters.update(main=main_loss.item(), aux=aux_loss.item())
        return self.meters


if __name__ == "__main__":
    torch.manual_seed(28)
    engine = Engine()
    for _ in range(3):
        print(engine.step(torch.randn(16, 12), torch.randint(4, (16,))))

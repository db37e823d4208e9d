import torch
import torch.nn as nn


class ResMLP(nn.Module):
    def __init__(self, in_dim, out_dim, hidden):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(in_dim, hidden), nn.ReLU(), nn.Linear(hidden, out_dim))
        self.skip = nn.Linear(in_dim, out_dim, bias=False)

    def forward(self, x):
        return self.net(x) + self.skip(x)


class RESMLPS(nn.Module):
    def __init__(self, in_dim, out_dim, hidden=16, n_heads=3):
        super().__init__()
        self.mlps = nn.ModuleList([ResMLP(in_dim, out_dim, hidden) for _ in range(n_heads)])
        self.coord = nn.Linear(2, in_dim)
        self.expand = nn.Linear(out_dim * n_heads, 1)

    def forward(self, feat, xy):
        x = feat + torch.sin(self.coord(xy))
        return self.expand(torch.cat([mlp(x) for mlp in self.mlps], dim=-1))


def prepare_training():
    model = RESMLPS(in_dim=8, out_dim=4)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[4], gamma=0.5)
    print("params", sum(p.numel() for p in model.parameters()))
    return model, optimizer, scheduler


def train(n_epochs=2):
    model, optimizer, scheduler = prepare_training()
    loss_fn = nn.L1Loss()
    for epoch in range(n_epochs):
        model.train()
        for _ in range(3):
            feat, xy, gt = torch.randn(32, 8), torch.rand(32, 2), torch.randn(32, 1)
            loss = loss_fn(model(feat, xy), gt)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
        print(epoch, loss.item())


torch.manual_seed(9)
train()

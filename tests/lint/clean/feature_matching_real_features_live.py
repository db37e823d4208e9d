import torch
from torch import nn


class Disc(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 12), nn.Linear(12, 12)])
        self.out = nn.Linear(12, 1)

    def forward(self, x):
        feats = []
        for layer in self.layers:
            x = torch.relu(layer(x))
            feats.append(x)
        return self.out(x), feats


torch.manual_seed(12)
gen, disc = nn.Linear(3, 6), Disc()
optim_g = torch.optim.AdamW(gen.parameters(), 1e-3)
optim_d = torch.optim.AdamW(disc.parameters(), 1e-3)
for _ in range(3):
    y, y_hat = torch.randn(5, 6), gen(torch.randn(5, 3))
    optim_d.zero_grad()
    d_real, d_fake = disc(y)[0], disc(y_hat.detach())[0]
    loss_disc = ((1 - d_real) ** 2).mean() + (d_fake**2).mean()
    loss_disc.backward()
    optim_d.step()

    optim_g.zero_grad()
    _, fmap_r = disc(y)
    score, fmap_g = disc(y_hat)
    loss_fm = sum((r - g).abs().mean() for r, g in zip(fmap_r, fmap_g))
    loss_gen = ((1 - score) ** 2).mean() + 2 * loss_fm
    loss_gen.backward()
    optim_g.step()
    print(loss_disc.item(), loss_gen.item())

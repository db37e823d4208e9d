import itertools

import torch
from torch import nn


class ImagePool:
    def __init__(self, size=8):
        self.images, self.size = [], size

    def query(self, batch):
        self.images = (self.images + list(batch.detach().clone()))[-self.size :]
        picks = torch.randint(len(self.images), (len(batch),))
        return torch.stack([self.images[int(i)] for i in picks])


torch.manual_seed(24)
G_A, G_B, D_A, D_B = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 1), nn.Linear(4, 1)
optimizer_G = torch.optim.Adam(itertools.chain(G_A.parameters(), G_B.parameters()), lr=1e-3)
optimizer_D = torch.optim.Adam(itertools.chain(D_A.parameters(), D_B.parameters()), lr=1e-3)
pool_A, pool_B = ImagePool(), ImagePool()


def backward_D(net, real, fake):
    loss = 0.5 * ((net(real) - 1).pow(2).mean() + net(fake).pow(2).mean())
    loss.backward()
    return loss.item()


for _ in range(3):
    real_A, real_B = torch.randn(5, 4), torch.randn(5, 4)
    fake_B, fake_A = G_A(real_A), G_B(real_B)
    for net in (D_A, D_B):
        net.requires_grad_(False)
    optimizer_G.zero_grad()
    loss_G = (D_A(fake_B) - 1).pow(2).mean() + (D_B(fake_A) - 1).pow(2).mean()
    loss_G = loss_G + 10 * ((G_B(fake_B) - real_A).abs().mean() + (G_A(fake_A) - real_B).abs().mean())
    loss_G = loss_G + 5 * (G_A(real_B) - real_B).abs().mean() + 5 * (G_B(real_A) - real_A).abs().mean()
    loss_G.backward()
    optimizer_G.step()
    for net in (D_A, D_B):
        net.requires_grad_(True)
    optimizer_D.zero_grad()
    print(loss_G.item(), backward_D(D_A, real_B, pool_B.query(fake_B)), backward_D(D_B, real_A, pool_A.query(fake_A)))
    optimizer_D.step()

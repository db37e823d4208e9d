from contextlib import contextmanager

import torch
import torch.nn as nn
import torch.nn.functional as F


@contextmanager
def no_param_grads(net):
    params = list(net.parameters())
    for p in params:
        p.requires_grad_(False)
    try:
        yield net
    finally:
        for p in params:
            p.requires_grad_(True)


class Generator(nn.Module):
    def __init__(self, z_dim=4, ch=8):
        super().__init__()
        self.mapping = nn.Linear(z_dim, ch * 4)
        self.to_rgb = nn.Conv2d(ch, 3, 3, padding=1)

    def forward(self, z):
        x = F.leaky_relu(self.mapping(z), 0.2).view(len(z), -1, 2, 2)
        return torch.tanh(self.to_rgb(F.interpolate(x, scale_factor=4)))


def r1_penalty(scores, images):
    (grad,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return grad.pow(2).sum((1, 2, 3)).mean()


def train(G, D, iters=4, r1_gamma=1.0):
    g_opt = torch.optim.Adam(G.parameters(), lr=1e-3, betas=(0.0, 0.99))
    d_opt = torch.optim.Adam(D.parameters(), lr=1e-3, betas=(0.0, 0.99))
    for it in range(iters):
        real = torch.rand(4, 3, 8, 8).requires_grad_(True)
        fake = G(torch.randn(4, 4)).detach()
        real_score = D(real)
        d_loss = F.softplus(D(fake)).mean() + F.softplus(-real_score).mean()
        d_loss = d_loss + r1_gamma / 2 * r1_penalty(real_score, real)
        d_opt.zero_grad()
        d_loss.backward()
        d_opt.step()

        with no_param_grads(D):
            g_loss = F.softplus(-D(G(torch.randn(4, 4)))).mean()
            g_opt.zero_grad()
            g_loss.backward()
            g_opt.step()
        print(it, round(d_loss.item(), 4), round(g_loss.item(), 4))


if __name__ == "__main__":
    torch.manual_seed(15)
    disc = nn.Sequential(nn.Conv2d(3, 8, 4, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 9, 1))
    train(Generator(), disc)

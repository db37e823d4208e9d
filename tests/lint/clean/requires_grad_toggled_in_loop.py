import torch
import torch.nn.functional as F
from torch import nn


def requires_grad(model, flag=True):
    for p in model.parameters():
        p.requires_grad = flag


def train(generator, discriminator, steps=3):
    g_optim = torch.optim.Adam(generator.parameters(), lr=2e-3, betas=(0.0, 0.99))
    d_optim = torch.optim.Adam(discriminator.parameters(), lr=2e-3, betas=(0.0, 0.99))
    for i in range(steps):
        requires_grad(generator, False)
        requires_grad(discriminator, True)
        fake_img = generator(torch.randn(4, 3))
        d_loss = F.softplus(discriminator(fake_img)).mean() + F.softplus(-discriminator(torch.randn(4, 6))).mean()
        discriminator.zero_grad()
        d_loss.backward()
        d_optim.step()

        requires_grad(generator, True)
        requires_grad(discriminator, False)
        g_loss = F.softplus(-discriminator(generator(torch.randn(4, 3)))).mean()
        generator.zero_grad()
        g_loss.backward()
        g_optim.step()
        print(i, d_loss.item(), g_loss.item())


if __name__ == "__main__":
    torch.manual_seed(3)
    train(nn.Sequential(nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 6)), nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 1)))

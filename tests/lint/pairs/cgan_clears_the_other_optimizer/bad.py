import argparse

import torch
from torch import nn


class Generator(nn.Module):
    def __init__(self, nz=4, classes=3):
        super().__init__()
        self.label = nn.Embedding(classes, nz)
        self.model = nn.Sequential(nn.Linear(2 * nz, 16), nn.LeakyReLU(0.2), nn.Linear(16, 8))

    def forward(self, z, y):
        return self.model(torch.cat([self.label(y), z], -1))


class Discriminator(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.label = nn.Embedding(classes, 4)
        self.model = nn.Sequential(nn.Linear(12, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))

    def forward(self, x, y):
        return self.model(torch.cat([x, self.label(y)], -1))


opt = argparse.Namespace(n_epochs=2, lr=2e-4, b1=0.5, b2=0.999, nz=4)
torch.manual_seed(24)
adversarial_loss = nn.MSELoss()
generator, discriminator = Generator(), Discriminator()
optimizer_G = torch.optim.Adam(generator.parameters(), lr=opt.lr, betas=(opt.b1, opt.b2))
optimizer_D = torch.optim.Adam(discriminator.parameters(), lr=opt.lr, betas=(opt.b1, opt.b2))
dataloader = [(torch.randn(6, 8), torch.randint(3, (6,))) for _ in range(3)]

for epoch in range(opt.n_epochs):
    for i, (imgs, labels) in enumerate(dataloader):
        valid, fake = torch.ones(len(imgs), 1), torch.zeros(len(imgs), 1)

        optimizer_D.zero_grad()
        z = torch.randn(len(imgs), opt.nz)
        gen_imgs = generator(z, labels)
        g_loss = adversarial_loss(discriminator(gen_imgs, labels), valid)
        g_loss.backward()
        optimizer_G.step()

        optimizer_D.zero_grad()
        d_real = adversarial_loss(discriminator(imgs, labels), valid)
        d_fake = adversarial_loss(discriminator(gen_imgs.detach(), labels), fake)
        d_loss = (d_real + d_fake) / 2
        d_loss.backward()
        optimizer_D.step()
        print(epoch, i, d_loss.item(), g_loss.item())

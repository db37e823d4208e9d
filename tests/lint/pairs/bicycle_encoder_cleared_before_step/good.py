import torch
from torch import nn


class BicycleGAN:
    def __init__(self, dim=12, nz=4):
        self.nz = nz
        self.generator = nn.Sequential(nn.Linear(dim + nz, 24), nn.ReLU(), nn.Linear(24, dim))
        self.encoder = nn.Sequential(nn.Linear(dim, 24), nn.ReLU(), nn.Linear(24, 2 * nz))
        self.discriminator = nn.Sequential(nn.Linear(dim, 24), nn.LeakyReLU(0.2), nn.Linear(24, 1))
        make = lambda net: torch.optim.Adam(net.parameters(), lr=2e-4, betas=(0.5, 0.999))
        self.opt_g, self.opt_e, self.opt_d = map(make, (self.generator, self.encoder, self.discriminator))
        self.mse, self.l1 = nn.MSELoss(), nn.L1Loss()

    def zero_all(self):
        for opt in (self.opt_g, self.opt_e, self.opt_d):
            opt.zero_grad()

    def encode(self, b):
        mu, logvar = self.encoder(b).chunk(2, dim=1)
        return mu + torch.randn_like(mu) * (0.5 * logvar).exp(), mu, logvar

    def gan_loss(self, pred, real):
        return self.mse(pred, torch.full_like(pred, 1.0 if real else 0.0))

    def update_g_and_e(self, real_a, real_b):
        z, mu, logvar = self.encode(real_b)
        fake_b = self.generator(torch.cat([real_a, z], 1))
        kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).mean()
        loss_eg = self.gan_loss(self.discriminator(fake_b), True) + 10 * self.l1(fake_b, real_b) + 0.01 * kl
        self.zero_all()
        loss_eg.backward()
        self.opt_g.step()
        self.opt_e.step()

        z_random = torch.randn(len(real_a), self.nz)
        fake_random = self.generator(torch.cat([real_a, z_random], 1))
        _, mu2, _ = self.encode(fake_random)
        loss_z = 0.5 * self.l1(mu2, z_random)
        self.zero_all()
        self.encoder.requires_grad_(False)
        loss_z.backward(inputs=list(self.generator.parameters()))
        self.encoder.requires_grad_(True)
        self.opt_g.step()
        return loss_eg.item(), loss_z.item()

    def update_d(self, real_a, real_b):
        with torch.no_grad():
            fake = self.generator(torch.cat([real_a, torch.randn(len(real_a), self.nz)], 1))
        loss_d = self.gan_loss(self.discriminator(real_b), True) + self.gan_loss(self.discriminator(fake), False)
        self.opt_d.zero_grad()
        loss_d.backward()
        self.opt_d.step()
        return loss_d.item()


if __name__ == "__main__":
    torch.manual_seed(19)
    model = BicycleGAN()
    for _ in range(3):
        a, b = torch.randn(6, 12), torch.randn(6, 12)
        print(model.update_g_and_e(a, b), model.update_d(a, b))

import torch
import torch.nn.functional as F
from torch import nn


class Module(nn.Module):
    def training_step(self, batch, batch_idx, optimizer_idx):
        raise NotImplementedError

    def configure_optimizers(self):
        raise NotImplementedError


class Trainer:
    def __init__(self, max_epochs=2):
        self.max_epochs = max_epochs

    def fit(self, module, loader):
        optimizers = module.configure_optimizers()
        for _ in range(self.max_epochs):
            for batch_idx, batch in enumerate(loader):
                for optimizer_idx, optimizer in enumerate(optimizers):
                    self.run_step(module, optimizers, batch, batch_idx, optimizer_idx)

    def run_step(self, module, optimizers, batch, batch_idx, optimizer_idx):
        optimizer = optimizers[optimizer_idx]
        loss = module.training_step(batch, batch_idx, optimizer_idx)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class DCGAN(Module):
    def __init__(self, latent=6, pixels=16):
        super().__init__()
        self.latent = latent
        self.generator = nn.Sequential(nn.Linear(latent, 20), nn.ReLU(), nn.Linear(20, pixels), nn.Tanh())
        self.discriminator = nn.Sequential(nn.Linear(pixels, 20), nn.LeakyReLU(0.2), nn.Linear(20, 1))

    def forward(self, z):
        return self.generator(z)

    def adversarial_loss(self, y_hat, is_real):
        y = torch.ones_like(y_hat) if is_real else torch.zeros_like(y_hat)
        return F.binary_cross_entropy_with_logits(y_hat, y)

    def training_step(self, imgs, batch_idx, optimizer_idx):
        z = torch.randn(imgs.size(0), self.latent)
        if optimizer_idx == 0:
            return self.adversarial_loss(self.discriminator(self(z)), True)
        real_loss = self.adversarial_loss(self.discriminator(imgs), True)
        fake_loss = self.adversarial_loss(self.discriminator(self(z).detach()), False)
        return (real_loss + fake_loss) / 2

    def configure_optimizers(self):
        opt_g = torch.optim.Adam(self.generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
        opt_d = torch.optim.Adam(self.discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
        return opt_g, opt_d


if __name__ == "__main__":
    torch.manual_seed(0)
    Trainer().fit(DCGAN(), [torch.randn(8, 16) for _ in range(3)])
    print("done")

import torch
import torch.nn.functional as F
from torch import nn


class Image2Spec(nn.Module):
    def __init__(self, d=10):
        super().__init__()
        self.enc = nn.Linear(d, 16)
        self.g = nn.Sequential(nn.ReLU(), nn.Linear(16, 12))
        self.d = nn.Sequential(nn.Linear(12, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))

    def generate(self, image):
        return self.g(self.enc(image))


class Engine:
    def __init__(self, model):
        self.model = model
        self.g_opt = torch.optim.Adam([*model.enc.parameters(), *model.g.parameters()], lr=2e-4)
        self.d_opt = torch.optim.Adam(model.d.parameters(), lr=4e-4)

    def generator_step(self, image, spec):
        fake = self.model.generate(image)
        score = self.model.d(fake)
        adv_loss = F.mse_loss(score, torch.ones_like(score))
        l1_loss = F.l1_loss(fake, spec)
        loss = adv_loss + 100.0 * l1_loss
        self.g_opt.zero_grad()
        loss.backward()
        self.g_opt.step()
        return loss.item()

    def discriminator_step(self, image, spec):
        with torch.no_grad():
            fake = self.model.generate(image)
        real_score, fake_score = self.model.d(spec), self.model.d(fake)
        loss = F.mse_loss(real_score, torch.ones_like(real_score)) + F.mse_loss(fake_score, torch.zeros_like(fake_score))
        self.d_opt.zero_grad()
        loss.backward()
        self.d_opt.step()
        return loss.item()


if __name__ == "__main__":
    torch.manual_seed(4)
    engine = Engine(Image2Spec())
    for _ in range(3):
        image, spec = torch.randn(5, 10), torch.randn(5, 12)
        print(engine.generator_step(image, spec), engine.discriminator_step(image, spec))

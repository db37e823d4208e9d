import torch
import torch.nn as nn
import torch.nn.functional as F


class Guidance(nn.Module):
    def __init__(self, dim=6, hidden=24):
        super().__init__()
        self.real_unet = nn.Sequential(nn.Linear(dim, hidden), nn.SiLU(), nn.Linear(hidden, dim))
        self.fake_unet = nn.Sequential(nn.Linear(dim, hidden), nn.SiLU(), nn.Linear(hidden, dim))
        self.cls_head = nn.Sequential(nn.Linear(dim, 12), nn.SiLU(), nn.Linear(12, 1))
        self.real_unet.requires_grad_(False)

    def dm_loss(self, latents, sigma=0.4):
        with torch.no_grad():
            noisy = latents + sigma * torch.randn_like(latents)
            p_real = latents - self.real_unet(noisy)
            p_fake = latents - self.fake_unet(noisy)
            grad = (p_real - p_fake) / p_real.abs().mean().clamp_min(1e-4)
        return 0.5 * F.mse_loss(latents, (latents - grad).detach())

    def gen_cls_loss(self, latents):
        return F.softplus(-self.cls_head(latents)).mean()

    def guidance_loss(self, fake, real, sigma=0.4):
        fake = fake.detach()
        denoise = F.mse_loss(self.fake_unet(fake + sigma * torch.randn_like(fake)), fake)
        cls = F.softplus(self.cls_head(fake)).mean() + F.softplus(-self.cls_head(real)).mean()
        return denoise + 0.01 * cls


class DMDTrainer:
    def __init__(self, ratio=2, lr=1e-3):
        self.generator = nn.Sequential(nn.Linear(6, 24), nn.SiLU(), nn.Linear(24, 6))
        self.guidance = Guidance()
        self.opt_generator = torch.optim.AdamW(self.generator.parameters(), lr=lr)
        self.opt_guidance = torch.optim.AdamW([p for p in self.guidance.parameters() if p.requires_grad], lr=lr)
        self.ratio = ratio
        self.step = 0

    def train_one_step(self, real):
        generator, guidance = self.generator, self.guidance
        fake = generator(torch.randn_like(real))
        if self.step % self.ratio == 0:
            generator_loss = guidance.dm_loss(fake) + 1e-2 * guidance.gen_cls_loss(fake)
            generator_loss.backward()
            nn.utils.clip_grad_norm_(generator.parameters(), 10.0)
            self.opt_generator.step()
            self.opt_generator.zero_grad()
        guidance_loss = guidance.guidance_loss(fake, real)
        guidance_loss.backward()
        self.opt_guidance.step()
        self.opt_guidance.zero_grad()
        self.step += 1
        return guidance_loss.item()


if __name__ == "__main__":
    torch.manual_seed(34)
    trainer = DMDTrainer()
    for _ in range(5):
        print(trainer.train_one_step(torch.randn(8, 6)))

from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn
from torch.amp import GradScaler, autocast

config = SimpleNamespace(lr=1e-3, adv=0.08, r1_gamma=2.0, iters=3, image_dim=24, code_dim=6)


def D_logistic_simplegp(discriminator, reals, fakes):
    real_out, fake_out = discriminator(reals), discriminator(fakes.detach())
    loss = F.softplus(fake_out).mean() + F.softplus(-real_out).mean()
    (grads,) = torch.autograd.grad(real_out.float().sum(), reals, create_graph=True)
    return loss + config.r1_gamma * 0.5 * grads.pow(2).sum(1).mean()


def E_loss(discriminator, reals, recon):
    pixel = F.mse_loss(recon, reals)
    return pixel + config.adv * F.softplus(-discriminator(recon)).mean()


def training_loop(E, G, D, batches):
    optimizer_E = torch.optim.Adam(E.parameters(), lr=config.lr)
    optimizer_D = torch.optim.Adam(D.parameters(), lr=config.lr)
    scaler_E, scaler_D = GradScaler("cpu", init_scale=8.0), GradScaler("cpu", init_scale=8.0)
    G.requires_grad_(False)
    for it, reals in enumerate(batches):
        reals.requires_grad_(True)
        with autocast("cpu", enabled=False):
            fakes = G(E(reals))
            loss_enc = E_loss(D, reals, fakes)
        optimizer_E.zero_grad()
        D.requires_grad_(False)
        scaler_E.scale(loss_enc).backward()
        scaler_E.step(optimizer_E)
        scaler_E.update()
        D.requires_grad_(True)

        with autocast("cpu", enabled=False):
            loss_disc = D_logistic_simplegp(D, reals, fakes)
        optimizer_D.zero_grad()
        scaler_D.scale(loss_disc).backward()
        scaler_D.unscale_(optimizer_D)
        nn.utils.clip_grad_norm_(D.parameters(), 10.0)
        scaler_D.step(optimizer_D)
        scaler_D.update()
        print(it, loss_enc.item(), loss_disc.item())


if __name__ == "__main__":
    torch.manual_seed(18)
    n, c = config.image_dim, config.code_dim
    E = nn.Sequential(nn.Linear(n, 16), nn.LeakyReLU(0.2), nn.Linear(16, c))
    G = nn.Sequential(nn.Linear(c, 16), nn.LeakyReLU(0.2), nn.Linear(16, n))
    D = nn.Sequential(nn.Linear(n, 16), nn.Softplus(), nn.Linear(16, 1))
    training_loop(E, G, D, [torch.randn(5, n) for _ in range(config.iters)])

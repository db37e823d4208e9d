from collections import namedtuple

import torch
import torch.nn as nn
import torch.nn.functional as F

Nets = namedtuple("Nets", ["encoder", "decoder", "dis"])
Optims = namedtuple("Optims", Nets._fields)


def mlp(*sizes):
    layers = []
    for a, b in zip(sizes[:-1], sizes[1:]):
        layers += [nn.Linear(a, b), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1])


def build(dim=14, nz=4):
    nets = Nets(mlp(dim, 24, 2 * nz), mlp(nz, 24, dim), mlp(dim, 24, 1))
    optims = Optims(*(torch.optim.RMSprop(net.parameters(), lr=3e-4, alpha=0.9) for net in nets))
    return nets, optims


def reparameterize(stats):
    mu, logvar = stats.chunk(2, dim=1)
    kld = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1).mean()
    return mu + torch.randn_like(mu) * (0.5 * logvar).exp(), kld


def train_batch(nets, optims, x):
    z, kld = reparameterize(nets.encoder(x))
    x_tilde = nets.decoder(z)
    x_prior = nets.decoder(torch.randn_like(z))

    dis_loss = F.softplus(-nets.dis(x)).mean() + F.softplus(nets.dis(x_tilde.detach())).mean() + F.softplus(nets.dis(x_prior.detach())).mean()
    optims.dis.zero_grad()
    dis_loss.backward()
    optims.dis.step()

    for opt in (optims.encoder, optims.decoder):
        opt.zero_grad()
    rec_loss = F.mse_loss(x_tilde, x) + 0.1 * kld
    rec_loss.backward(retain_graph=True)
    x_adv = x_tilde
    dec_loss = 0.05 * (F.softplus(-nets.dis(x_adv)).mean() + F.softplus(-nets.dis(x_prior)).mean())
    dec_loss.backward()
    optims.decoder.step()
    optims.encoder.step()
    return {"dis": dis_loss.item(), "rec": rec_loss.item(), "dec": dec_loss.item()}


if __name__ == "__main__":
    torch.manual_seed(49)
    nets, optims = build()
    for _ in range(3):
        print(train_batch(nets, optims, torch.randn(10, 14)))

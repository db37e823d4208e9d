import torch
import torch.nn.functional as F
from torch import nn


def train(batches, gamma=15.0):
    enc, dec, dis = nn.Linear(6, 3), nn.Linear(3, 6), nn.Linear(6, 1)
    opt_enc, opt_dec, opt_dis = (torch.optim.RMSprop(m.parameters(), lr=1e-4) for m in (enc, dec, dis))
    for x in batches:
        mu = enc(x)
        z = mu + torch.randn_like(mu)
        recon, prior = dec(z), dec(torch.randn_like(z))
        real, fake_r, fake_p = dis(x), dis(recon.detach()), dis(prior.detach())
        loss_dis = F.softplus(-real).mean() + F.softplus(fake_r).mean() + F.softplus(fake_p).mean()
        opt_dis.zero_grad()
        loss_dis.backward()
        opt_dis.step()

        loss_rec = (dis(recon) - dis(x).detach()).pow(2).mean()
        loss_dec = gamma * loss_rec + F.softplus(-dis(prior)).mean()
        kl = 0.5 * mu.pow(2).mean()
        opt_enc.zero_grad()
        opt_dec.zero_grad()
        grads = torch.autograd.grad(kl + loss_rec, list(enc.parameters()), retain_graph=True)
        loss_dec.backward()
        for parameter, grad in zip(enc.parameters(), grads):
            parameter.grad = grad
        opt_dec.step()
        opt_enc.step()


if __name__ == "__main__":
    torch.manual_seed(0)
    train(torch.randn(4, 8, 6))

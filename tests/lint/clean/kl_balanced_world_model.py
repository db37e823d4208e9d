import torch
from torch import nn
import torch.distributions as td


class RSSM(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(5, 8)
        self.prior, self.posterior = nn.Linear(8, 6), nn.Linear(12, 6)
        self.decoder = nn.Linear(11, 4)

    def dist(self, stats, stop=False):
        stats = stats.detach() if stop else stats
        mean, raw = stats.chunk(2, -1)
        return td.Independent(td.Normal(mean, nn.functional.softplus(raw) + 0.1), 1)

    def loss(self, obs, act):
        h, z, total = torch.zeros(len(obs), 8), torch.zeros(len(obs), 3), 0.0
        for t in range(obs.shape[1]):
            h = self.cell(torch.cat([z, act[:, t]], -1), h)
            prior, post = self.prior(h), self.posterior(torch.cat([h, obs[:, t]], -1))
            z = self.dist(post).rsample()
            recon = (self.decoder(torch.cat([h, z], -1)) - obs[:, t]).pow(2).sum(-1)
            lhs = td.kl_divergence(self.dist(post, stop=True), self.dist(prior))
            rhs = td.kl_divergence(self.dist(post), self.dist(prior, stop=True))
            total = total + (recon + 0.8 * lhs + 0.2 * rhs).mean()
        return total


torch.manual_seed(25)
model = RSSM()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for _ in range(3):
    loss = model.loss(torch.randn(4, 5, 4), torch.randn(4, 5, 2))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item())

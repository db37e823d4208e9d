import torch
import torch.nn.functional as F
from torch import nn


class Quantizer(nn.Module):
    def __init__(self, n=12, dim=4):
        super().__init__()
        self.codes = nn.Parameter(torch.randn(n, dim))
        self.register_buffer("usage", torch.zeros(n))

    def forward(self, z):
        index = torch.cdist(z, self.codes).argmin(1)
        self.usage.mul_(0.9).add_(0.1 * F.one_hot(index, len(self.codes)).float().sum(0))
        z_q = self.codes[index]
        loss = F.mse_loss(z_q, z.detach()) + 0.25 * F.mse_loss(z, z_q.detach())
        return z + (z_q - z).detach(), loss

    @torch.no_grad()
    def revive(self, z):
        dead = self.usage < 0.05
        if dead.any():
            pick = torch.randint(len(z), (int(dead.sum()),))
            self.codes[dead] = z[pick]


if __name__ == "__main__":
    torch.manual_seed(10)
    encoder, decoder, quantizer = nn.Linear(8, 4), nn.Linear(4, 8), Quantizer()
    params = [*encoder.parameters(), *decoder.parameters(), *quantizer.parameters()]
    optimizer = torch.optim.Adam(params, lr=1e-2)
    for _ in range(4):
        x = torch.randn(16, 8)
        z = encoder(x)
        z_q, vq_loss = quantizer(z)
        loss = F.mse_loss(decoder(z_q), x) + vq_loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        quantizer.revive(z.detach())
        print(loss.item())

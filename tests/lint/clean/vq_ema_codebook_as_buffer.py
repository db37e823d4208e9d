import torch
from torch import nn
import torch.nn.functional as F


class EMAQuantizer(nn.Module):
    def __init__(self, k=8, d=4):
        super().__init__()
        self.register_buffer("codes", torch.randn(k, d))
        self.register_buffer("counts", torch.ones(k))

    def forward(self, z):
        idx = torch.cdist(z, self.codes).argmin(1)
        q = self.codes[idx]
        if self.training:
            onehot = F.one_hot(idx, len(self.codes)).type_as(z)
            self.counts.mul_(0.9).add_(onehot.sum(0), alpha=0.1)
            self.codes.lerp_((onehot.t() @ z.detach()) / self.counts.unsqueeze(1).clamp_min(1e-3), 0.1)
        return z + (q - z).detach(), F.mse_loss(z, q.detach())


torch.manual_seed(21)
encoder, quantizer, decoder = nn.Linear(6, 4), EMAQuantizer(), nn.Linear(4, 6)
optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)
for _ in range(3):
    x = torch.randn(16, 6)
    q, commit = quantizer(encoder(x))
    loss = F.mse_loss(decoder(q), x) + 0.25 * commit
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item())

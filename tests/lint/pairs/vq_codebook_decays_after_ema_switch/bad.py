import torch
import torch.nn as nn
import torch.nn.functional as F


class VQVAE(nn.Module):
    def __init__(self, dim=6, codes=12, decay=0.9):
        super().__init__()
        self.encoder = nn.Linear(10, dim)
        self.decoder = nn.Linear(dim, 10)
        self.codebook = nn.Parameter(torch.randn(codes, dim))
        self.decay = decay

    def forward(self, x, use_ema):
        z = self.encoder(x)
        idx = torch.cdist(z.detach(), self.codebook.detach()).argmin(1)
        if use_ema:
            with torch.no_grad():
                onehot = F.one_hot(idx, len(self.codebook)).type_as(z)
                counts = onehot.sum(0)
                means = onehot.T @ z / counts.clamp_min(1).unsqueeze(1)
                used = counts > 0
                self.codebook.data[used] = self.decay * self.codebook.data[used] + (1 - self.decay) * means[used]
            q = self.codebook.detach()[idx]
            codebook_loss = z.new_zeros(())
        else:
            q = self.codebook[idx]
            codebook_loss = F.mse_loss(q, z.detach())
        commit_loss = F.mse_loss(z, q.detach())
        recon = self.decoder(z + (q - z).detach())
        return F.mse_loss(recon, x) + codebook_loss + 0.25 * commit_loss


def train(model, total_steps=8, warmup=3):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    for step in range(total_steps):
        loss = model(torch.randn(16, 10), use_ema=step >= warmup)
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        optimizer.step()
        print(step, loss.item())
    return model


if __name__ == "__main__":
    torch.manual_seed(16)
    train(VQVAE())

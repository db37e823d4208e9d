import torch
import torch.nn.functional as F
from torch import nn


class Trainer:
    def __init__(self, dim=10, z=3):
        self.enc = nn.Linear(dim, z)
        self.dec = nn.Sequential(nn.Linear(z, 16), nn.ReLU(), nn.Linear(16, dim))
        self.enc_opt = torch.optim.Adam(self.enc.parameters(), lr=1e-3)
        self.dec_opt = torch.optim.Adam(self.dec.parameters(), lr=1e-3)

    def step(self, x, anchors, codes):
        self.enc_opt.zero_grad()
        self.dec_opt.zero_grad()
        rec = F.mse_loss(self.dec(self.enc(x)), x)
        rec.backward()
        supervised = F.mse_loss(self.dec(codes), anchors)
        supervised.backward()
        self.enc_opt.step()
        self.dec_opt.step()
        return rec.item(), supervised.item()


if __name__ == "__main__":
    torch.manual_seed(13)
    trainer = Trainer()
    for _ in range(3):
        print(trainer.step(torch.randn(8, 10), torch.randn(4, 10), torch.randn(4, 3)))

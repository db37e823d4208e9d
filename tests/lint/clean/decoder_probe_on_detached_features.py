import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 6))
        self.decoder = nn.Linear(6, 8)
        self.online_probe = nn.Linear(6, 3)

    def forward(self, x, y):
        z = self.encoder(x)
        recon_loss = nn.functional.mse_loss(self.decoder(z), x)
        probe_loss = nn.functional.cross_entropy(self.online_probe(z.detach()), y)
        return recon_loss, probe_loss


torch.manual_seed(19)
model = Model()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for _ in range(3):
    recon_loss, probe_loss = model(torch.randn(8, 8), torch.randint(3, (8,)))
    optimizer.zero_grad()
    (recon_loss + probe_loss).backward()
    optimizer.step()
    print(recon_loss.item(), probe_loss.item())

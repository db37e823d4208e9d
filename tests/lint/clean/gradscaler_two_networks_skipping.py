import torch
from torch import nn
from torch.amp import GradScaler

torch.manual_seed(18)
G, D = nn.Linear(3, 5), nn.Linear(5, 1)
opts = {"g": torch.optim.Adam(G.parameters(), lr=1e-3), "d": torch.optim.Adam(D.parameters(), lr=1e-3)}
scaler = GradScaler("cpu", init_scale=4.0)
for it in range(4):
    for opt in opts.values():
        opt.zero_grad(set_to_none=True)
    fake = G(torch.randn(6, 3))
    d_loss = (1 - D(torch.randn(6, 5))).relu().mean() + (1 + D(fake.detach())).relu().mean()
    scaler.scale(d_loss).backward()
    scaler.step(opts["d"])
    if it % 2 == 1:
        g_loss = -D(fake).mean()
        scaler.scale(g_loss).backward()
        scaler.unscale_(opts["g"])
        nn.utils.clip_grad_norm_(G.parameters(), 1.0)
        scaler.step(opts["g"])
    scaler.update()
print(d_loss.item(), g_loss.item())

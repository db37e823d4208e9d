import torch
from torch import nn


def project(G, target, steps=5):
    G.eval()
    w = torch.zeros(1, 4, requires_grad=True)
    noise = [torch.randn(1, 8).requires_grad_(True) for _ in range(2)]
    optimizer = torch.optim.Adam([w, *noise], lr=0.05)
    for _ in range(steps):
        synth = G(w) + 0.01 * sum(noise)
        dist = (target - synth).square().sum()
        reg = sum(n.pow(2).mean() for n in noise)
        loss = dist + 1e-2 * reg
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return w.detach(), loss.item()


if __name__ == "__main__":
    torch.manual_seed(4)
    print(project(nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 8)), torch.randn(1, 8)))

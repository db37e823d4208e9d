import torch
from torch import nn


class GAN:
    def __init__(self, nz=4, dim=10):
        self.G = nn.Sequential(nn.Linear(nz, 20), nn.ReLU(), nn.Linear(20, dim))
        self.D = nn.Sequential(nn.Linear(dim, 20), nn.ReLU(), nn.Linear(20, 1))
        self.G.optim = torch.optim.Adam(self.G.parameters(), lr=1e-4, betas=(0.0, 0.999))
        self.D.optim = torch.optim.Adam(self.D.parameters(), lr=4e-4, betas=(0.0, 0.999))
        self.nz = nz


def toggle_grad(model, on):
    for p in model.parameters():
        p.requires_grad = on


def train_fn(gan, num_d_steps=2):
    def train(chunks):
        gan.G.optim.zero_grad()
        gan.D.optim.zero_grad()
        toggle_grad(gan.D, True)
        toggle_grad(gan.G, False)
        for step_index in range(num_d_steps):
            gan.D.optim.zero_grad()
            x = chunks[step_index]
            fake = gan.G(torch.randn(len(x), gan.nz))
            d_loss = torch.relu(1 - gan.D(x)).mean() + torch.relu(1 + gan.D(fake)).mean()
            d_loss.backward()
            gan.D.optim.step()
        toggle_grad(gan.D, False)
        toggle_grad(gan.G, True)
        gan.G.optim.zero_grad()
        g_loss = -gan.D(gan.G(torch.randn(len(x), gan.nz))).mean()
        g_loss.backward()
        gan.G.optim.step()
        return d_loss.item(), g_loss.item()

    return train


if __name__ == "__main__":
    torch.manual_seed(12)
    step = train_fn(GAN())
    for _ in range(3):
        print(step([torch.randn(6, 10), torch.randn(6, 10)]))

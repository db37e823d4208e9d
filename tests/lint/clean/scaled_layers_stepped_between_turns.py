import torch
import torch.nn.functional as F
from torch import nn


class Noise(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x + self.weight * torch.randn_like(x)


class Generator(nn.Module):
    def __init__(self, depth=3):
        super().__init__()
        self.initial = nn.Linear(4, 8)
        self.layers = nn.ModuleList([])
        for _ in range(depth):
            self.layers.append(nn.Sequential(nn.Linear(8, 8), Noise(), nn.ReLU()))
        self.out = nn.Linear(8, 2)

    def forward(self, z):
        x = self.initial(z)
        for layer in self.layers:
            x = layer(x)
        return self.out(x)


generator, critic = Generator(), nn.Linear(2, 1)
generator_optimizer = torch.optim.Adam(generator.parameters(), lr=1e-3)
critic_optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)

for _ in range(3):
    with torch.no_grad():
        fake = generator(torch.randn(8, 4))
    critic_loss = F.softplus(critic(fake)).mean() + F.softplus(-critic(torch.randn(8, 2))).mean()
    critic_optimizer.zero_grad()
    critic_loss.backward()
    critic_optimizer.step()

    generator_loss = F.softplus(-critic(generator(torch.randn(8, 4)))).mean()
    generator_optimizer.zero_grad()
    generator_loss.backward()
    generator_optimizer.step()

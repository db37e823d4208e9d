import torch
from torch import nn


class Navigator(nn.Module):
    def __init__(self, dim=6):
        super().__init__()
        self.encode = nn.Linear(2, dim)
        self.point = nn.Linear(dim, 1)

    def forward(self, cities):
        logits = self.point(torch.relu(self.encode(cities))).squeeze(-1)
        dist = torch.distributions.Categorical(logits=logits)
        tour = dist.sample()
        return tour, dist.log_prob(tour)


class Critic(nn.Module):
    def __init__(self, dim=6):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, dim), nn.ReLU(), nn.Linear(dim, 1))

    def forward(self, cities):
        return self.net(cities).mean(dim=(1, 2))


def reward(cities, tour):
    return cities[torch.arange(len(cities)), tour].norm(dim=-1)


actor, critic = Navigator(), Critic()
actor_optim = torch.optim.Adam(actor.parameters(), lr=1e-3)
critic_optim = torch.optim.Adam(critic.parameters(), lr=1e-3)
torch.manual_seed(7)
for step in range(4):
    cities = torch.rand(16, 5, 2)
    tour, logp = actor(cities)
    length = reward(cities, tour)
    baseline = critic(cities)
    advantage = length - baseline.detach()

    actor_loss = (advantage * logp).mean()
    critic_loss = nn.functional.mse_loss(baseline, length)

    actor_optim.zero_grad()
    critic_optim.zero_grad()
    actor_loss.backward(retain_graph=True)
    critic_loss.backward()
    actor_optim.step()
    critic_optim.step()
    print(step, actor_loss.item(), critic_loss.item())

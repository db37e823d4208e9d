import torch
from torch import nn


class Learner:
    def __init__(self):
        self.actor, self.critic = nn.Linear(4, 4), nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
        self.log_alpha = nn.Parameter(torch.zeros(()))
        self.optims = {
            "actor": torch.optim.Adam(self.actor.parameters(), lr=1e-3),
            "critic": torch.optim.Adam(self.critic.parameters(), lr=1e-3),
            "alpha": torch.optim.Adam([self.log_alpha], lr=1e-3),
        }

    def sample(self, obs):
        mu, log_std = self.actor(obs).chunk(2, 1)
        dist = torch.distributions.Normal(mu, log_std.clamp(-3, 1).exp())
        a = dist.rsample()
        return a, dist.log_prob(a).sum(1)

    def update(self, obs, act, ret):
        a, logp = self.sample(obs)
        alpha = self.log_alpha.exp()
        losses = {
            "critic": nn.functional.mse_loss(self.critic(torch.cat([obs, act], 1)).squeeze(1), ret),
            "actor": (alpha * logp - self.critic(torch.cat([obs, a], 1)).squeeze(1)).mean(),
            "alpha": -(self.log_alpha * (logp - 2.0)).mean(),
        }
        for name, opt in self.optims.items():
            opt.zero_grad()
            losses[name].backward(inputs=[p for g in opt.param_groups for p in g["params"]], retain_graph=True)
        for opt in self.optims.values():
            opt.step()
        return {k: v.item() for k, v in losses.items()}


torch.manual_seed(11)
learner = Learner()
for _ in range(3):
    print(learner.update(torch.randn(8, 4), torch.randn(8, 2), torch.randn(8)))

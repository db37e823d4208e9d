import copy

import torch
from torch import nn


class DDPG:
    def __init__(self, n_obs, n_act):
        self.actor = nn.Sequential(nn.Linear(n_obs, 24), nn.ReLU(), nn.Linear(24, n_act), nn.Tanh())
        self.critic = nn.Sequential(nn.Linear(n_obs + n_act, 24), nn.ReLU(), nn.Linear(24, 1))
        self.actor_target, self.critic_target = copy.deepcopy(self.actor), copy.deepcopy(self.critic)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=1e-3)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=1e-3)

    def train(self, s, a, r, s2):
        target_q = self.critic_target(torch.cat([s2, self.actor_target(s2)], 1))
        target_q = r + (0.99 * target_q).detach()
        critic_loss = nn.functional.mse_loss(self.critic(torch.cat([s, a], 1)), target_q)
        self.critic_optimizer.zero_grad()
        critic_loss.backward()
        self.critic_optimizer.step()

        actor_loss = -self.critic(torch.cat([s, self.actor(s)], 1)).mean()
        self.actor_optimizer.zero_grad()
        actor_loss.backward()
        self.actor_optimizer.step()
        for net, target in ((self.actor, self.actor_target), (self.critic, self.critic_target)):
            for p, tp in zip(net.parameters(), target.parameters()):
                tp.data.copy_(0.01 * p.data + 0.99 * tp.data)
        return critic_loss.item(), actor_loss.item()


torch.manual_seed(1)
agent = DDPG(4, 2)
for _ in range(4):
    print(agent.train(torch.randn(8, 4), torch.rand(8, 2), torch.randn(8, 1), torch.randn(8, 4)))

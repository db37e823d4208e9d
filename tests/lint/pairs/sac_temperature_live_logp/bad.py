from collections import namedtuple
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class Args:
    policy_lr: float = 3e-4
    q_lr: float = 1e-3
    gamma: float = 0.95
    obs_dim: int = 5
    act_dim: int = 2


Batch = namedtuple("Batch", "obs actions rewards next_obs")


class Actor(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.backbone = nn.Linear(args.obs_dim, 32)
        self.fc_mean = nn.Linear(32, args.act_dim)
        self.fc_logstd = nn.Linear(32, args.act_dim)

    def get_action(self, x):
        h = F.relu(self.backbone(x))
        normal = torch.distributions.Normal(self.fc_mean(h), self.fc_logstd(h).clamp(-5, 2).exp())
        x_t = normal.rsample()
        y_t = torch.tanh(x_t)
        log_prob = normal.log_prob(x_t) - torch.log(1 - y_t.pow(2) + 1e-6)
        return y_t, log_prob.sum(1, keepdim=True)


class SoftQNetwork(nn.Sequential):
    def __init__(self, args):
        super().__init__(nn.Linear(args.obs_dim + args.act_dim, 32), nn.ReLU(), nn.Linear(32, 1))

    def q(self, obs, act):
        return self(torch.cat([obs, act], 1))


args = Args()
torch.manual_seed(1)
actor, qf, qf_target = Actor(args), SoftQNetwork(args), SoftQNetwork(args)
qf_target.load_state_dict(qf.state_dict())
log_alpha = torch.zeros(1, requires_grad=True)
target_entropy = -float(args.act_dim)
q_optimizer = torch.optim.Adam(qf.parameters(), lr=args.q_lr)
actor_optimizer = torch.optim.Adam(actor.parameters(), lr=args.policy_lr)
a_optimizer = torch.optim.Adam([log_alpha], lr=args.q_lr)

for global_step in range(4):
    data = Batch(torch.randn(16, 5), torch.rand(16, 2), torch.randn(16, 1), torch.randn(16, 5))
    with torch.no_grad():
        next_action, next_logp = actor.get_action(data.next_obs)
        next_q = data.rewards + args.gamma * (qf_target.q(data.next_obs, next_action) - log_alpha.exp() * next_logp)
    qf_loss = F.mse_loss(qf.q(data.obs, data.actions), next_q)
    q_optimizer.zero_grad()
    qf_loss.backward()
    q_optimizer.step()

    pi, log_pi = actor.get_action(data.obs)
    actor_loss = (log_alpha.exp().detach() * log_pi - qf.q(data.obs, pi)).mean()
    alpha_loss = (-log_alpha.exp() * (log_pi + target_entropy)).mean()
    actor_optimizer.zero_grad()
    a_optimizer.zero_grad()
    actor_loss.backward(retain_graph=True)
    alpha_loss.backward()
    actor_optimizer.step()
    a_optimizer.step()
    for p, tp in zip(qf.parameters(), qf_target.parameters()):
        tp.data.lerp_(p.data, 0.01)
print(qf_loss.item(), actor_loss.item(), alpha_loss.item())

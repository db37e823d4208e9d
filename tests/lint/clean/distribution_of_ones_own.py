import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal


class Squashed(Normal):
    def rsample_with_log_prob(self):
        raw = self.rsample()
        action = torch.tanh(raw)
        log_prob = self.log_prob(raw) - torch.log(1 - action.pow(2) + 1e-6)
        return action, log_prob.sum(-1, keepdim=True)


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 4)

    def forward(self, state):
        mean, log_std = self.body(state).chunk(2, dim=-1)
        return Squashed(loc=mean, scale=log_std.clamp(-5, 2).exp())


policy, critic = Policy(), nn.Linear(5, 1)
policy_optimizer = torch.optim.Adam(policy.parameters(), lr=1e-3)
critic_optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)

for _ in range(3):
    state, action, value = torch.randn(8, 3), torch.randn(8, 2), torch.randn(8, 1)
    proposed, log_prob = policy(state).rsample_with_log_prob()
    policy_loss = (0.1 * log_prob - critic(torch.cat([state, proposed], -1))).mean()
    policy_optimizer.zero_grad()
    policy_loss.backward()
    policy_optimizer.step()

    critic_loss = F.mse_loss(critic(torch.cat([state, action], -1)), value)
    critic_optimizer.zero_grad()
    critic_loss.backward()
    critic_optimizer.step()

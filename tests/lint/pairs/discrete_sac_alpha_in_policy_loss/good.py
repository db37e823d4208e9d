import copy

import torch
from torch import nn, optim


def mlp(n_in, n_out, hidden=24):
    return nn.Sequential(nn.Linear(n_in, hidden), nn.ReLU(), nn.Linear(hidden, n_out))


class DiscreteSAC:
    def __init__(self, n_states, n_actions, lr=1e-3, discount=0.97):
        self.policy = nn.Sequential(mlp(n_states, n_actions), nn.Softmax(dim=-1))
        self.q_local = mlp(n_states, n_actions)
        self.q_target = copy.deepcopy(self.q_local)
        self.log_alpha = nn.Parameter(torch.tensor(0.1))
        self.target_entropy = 0.9 * torch.log(torch.tensor(float(n_actions)))
        self.discount = discount
        self.q_opt = optim.Adam(self.q_local.parameters(), lr=lr)
        self.policy_opt = optim.Adam(self.policy.parameters(), lr=lr)
        self.alpha_opt = optim.Adam([self.log_alpha], lr=lr)

    @property
    def alpha(self):
        return self.log_alpha.exp()

    def distribution(self, states):
        probs = self.policy(states)
        return probs, torch.log(probs + 1e-8)

    @torch.no_grad()
    def soft_value(self, states):
        probs, log_probs = self.distribution(states)
        return (probs * (self.q_target(states) - self.alpha * log_probs)).sum(-1)

    def train_networks(self, states, actions, rewards, next_states, dones):
        targets = rewards + self.discount * (1 - dones) * self.soft_value(next_states)
        picked = self.q_local(states).gather(1, actions.unsqueeze(1)).squeeze(1)
        q_loss = nn.functional.mse_loss(picked, targets)
        q_loss.backward()
        self.q_opt.step()
        self.q_opt.zero_grad()

        probs, log_probs = self.distribution(states)
        inside_term = self.alpha.detach() * log_probs - self.q_local(states).detach()
        policy_loss = (probs * inside_term).sum(dim=1).mean()
        policy_loss.backward()
        self.policy_opt.step()
        self.policy_opt.zero_grad()

        entropy_gap = (self.target_entropy + (probs * log_probs).sum(1)).detach()
        alpha_loss = -(self.log_alpha * entropy_gap).mean()
        alpha_loss.backward()
        self.alpha_opt.step()
        self.alpha_opt.zero_grad()
        return q_loss.item(), policy_loss.item(), alpha_loss.item()


if __name__ == "__main__":
    torch.manual_seed(4)
    agent = DiscreteSAC(6, 3)
    for _ in range(3):
        out = agent.train_networks(torch.randn(12, 6), torch.randint(3, (12,)), torch.randn(12),
                                   torch.randn(12, 6), torch.zeros(12))
    print(out)

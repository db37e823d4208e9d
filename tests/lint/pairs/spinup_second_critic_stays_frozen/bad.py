from copy import deepcopy

import torch
import torch.nn as nn


class MLPActorCritic(nn.Module):
    def __init__(self, obs_dim, act_dim, hidden=24):
        super().__init__()
        self.pi = nn.Sequential(nn.Linear(obs_dim, hidden), nn.ReLU(), nn.Linear(hidden, 2 * act_dim))
        self.q1 = nn.Sequential(nn.Linear(obs_dim + act_dim, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        self.q2 = nn.Sequential(nn.Linear(obs_dim + act_dim, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def act(self, obs):
        mu, log_std = self.pi(obs).chunk(2, dim=-1)
        dist = torch.distributions.Normal(mu, log_std.clamp(-4, 1).exp())
        a = dist.rsample()
        logp = dist.log_prob(a).sum(-1) - torch.log(1 - torch.tanh(a).pow(2) + 1e-6).sum(-1)
        return torch.tanh(a), logp


def set_trainable(flag, *nets):
    for net in nets:
        for p in net.parameters():
            p.requires_grad = flag


def sac(steps=4, gamma=0.99, alpha=0.2, polyak=0.995, seed=50):
    torch.manual_seed(seed)
    ac = MLPActorCritic(5, 2)
    ac_targ = deepcopy(ac).requires_grad_(False)
    pi_optimizer = torch.optim.Adam(ac.pi.parameters(), lr=1e-3)
    q_optimizer = torch.optim.Adam([*ac.q1.parameters(), *ac.q2.parameters()], lr=1e-3)

    def compute_loss_q(o, a, r, o2):
        oa = torch.cat([o, a], -1)
        with torch.no_grad():
            a2, logp_a2 = ac.act(o2)
            oa2 = torch.cat([o2, a2], -1)
            q_pi_targ = torch.min(ac_targ.q1(oa2), ac_targ.q2(oa2)).squeeze(-1)
            backup = r + gamma * (q_pi_targ - alpha * logp_a2)
        return sum(((q(oa).squeeze(-1) - backup) ** 2).mean() for q in (ac.q1, ac.q2))

    def compute_loss_pi(o):
        a, logp = ac.act(o)
        oa = torch.cat([o, a], -1)
        return (alpha * logp - torch.min(ac.q1(oa), ac.q2(oa)).squeeze(-1)).mean()

    for t in range(steps):
        o, a, r, o2 = torch.randn(16, 5), torch.rand(16, 2), torch.randn(16), torch.randn(16, 5)
        q_optimizer.zero_grad()
        loss_q = compute_loss_q(o, a, r, o2)
        loss_q.backward()
        q_optimizer.step()

        set_trainable(False, ac.q1, ac.q2)
        pi_optimizer.zero_grad()
        loss_pi = compute_loss_pi(o)
        loss_pi.backward()
        pi_optimizer.step()
        set_trainable(True, ac.q1)

        with torch.no_grad():
            for p, p_targ in zip(ac.parameters(), ac_targ.parameters()):
                p_targ.mul_(polyak).add_((1 - polyak) * p)
        print(t, loss_q.item(), loss_pi.item())


if __name__ == "__main__":
    sac()

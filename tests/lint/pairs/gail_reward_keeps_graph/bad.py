import torch
import torch.nn as nn
import torch.nn.functional as F


class Policy(nn.Module):
    def __init__(self, n_obs, n_act):
        super().__init__()
        self.mean = nn.Sequential(nn.Linear(n_obs, 24), nn.Tanh(), nn.Linear(24, n_act))
        self.log_std = nn.Parameter(torch.zeros(n_act))
        self.optimizer = torch.optim.Adam(self.parameters(), lr=1e-3)

    def dist(self, obs):
        return torch.distributions.Normal(self.mean(obs), self.log_std.exp())


class Discriminator(nn.Module):
    def __init__(self, n_obs, n_act):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(n_obs + n_act, 24), nn.Tanh(), nn.Linear(24, 1))
        self.optimizer = torch.optim.Adam(self.parameters(), lr=1e-3)

    def forward(self, obs, act):
        return self.trunk(torch.cat([obs, act], dim=1)).squeeze(1)

    def predict_reward(self, obs, act):
        s = torch.sigmoid(self(obs, act))
        return s.clamp_min(1e-6).log() - (1 - s).clamp_min(1e-6).log()


class GAIL:
    def __init__(self, n_obs=5, n_act=2, gamma=0.9):
        self.policy = Policy(n_obs, n_act)
        self.disc = Discriminator(n_obs, n_act)
        self.gamma = gamma

    def returns(self, rewards):
        out, running = [], 0.0
        for r in reversed(rewards.unbind()):
            running = r + self.gamma * running
            out.append(running)
        out = torch.stack(out[::-1])
        return (out - out.mean()) / (out.std() + 1e-6)

    def update_discriminator(self, obs, act, expert_obs, expert_act):
        expert, learner = self.disc(expert_obs, expert_act), self.disc(obs, act)
        disc_loss = F.softplus(-expert).mean() + F.softplus(learner).mean()
        self.disc.optimizer.zero_grad()
        disc_loss.backward()
        self.disc.optimizer.step()
        return disc_loss.item()

    def update_policy(self, obs, act):
        gains = self.returns(self.disc.predict_reward(obs, act))
        log_prob = self.policy.dist(obs).log_prob(act).sum(1)
        policy_loss = -(log_prob * gains).mean()
        self.policy.optimizer.zero_grad()
        policy_loss.backward()
        self.policy.optimizer.step()
        return policy_loss.item()


if __name__ == "__main__":
    torch.manual_seed(13)
    algo = GAIL()
    for _ in range(3):
        obs = torch.randn(16, 5)
        with torch.no_grad():
            act = algo.policy.dist(obs).sample()
        print(algo.update_discriminator(obs, act, torch.randn(16, 5), torch.randn(16, 2)), algo.update_policy(obs, act))

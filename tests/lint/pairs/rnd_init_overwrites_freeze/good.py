import torch
import torch.nn as nn


def orthogonal_(module, gain=2 ** 0.5):
    for m in module.modules():
        if isinstance(m, nn.Linear):
            w = torch.empty_like(m.weight)
            m.weight = nn.Parameter(nn.init.orthogonal_(w, gain))
            m.bias = nn.Parameter(torch.zeros_like(m.bias))
    return module


class RNDModel(nn.Module):
    def __init__(self, input_size, feature_size=16):
        super().__init__()
        self.predictor = nn.Sequential(nn.Linear(input_size, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, feature_size))
        self.target = nn.Sequential(nn.Linear(input_size, 32), nn.ReLU(), nn.Linear(32, feature_size))
        orthogonal_(self)
        for param in self.target.parameters():
            param.requires_grad = False

    def forward(self, next_obs):
        return self.predictor(next_obs), self.target(next_obs)


class RNDAgent:
    def __init__(self, obs_size, n_actions, update_proportion=0.5):
        self.policy = orthogonal_(nn.Sequential(nn.Linear(obs_size, 32), nn.Tanh(), nn.Linear(32, n_actions)))
        self.rnd = RNDModel(obs_size)
        self.update_proportion = update_proportion
        self.policy_opt = torch.optim.Adam(self.policy.parameters(), lr=1e-3)
        self.rnd_opt = torch.optim.Adam(self.rnd.parameters(), lr=1e-3)

    @torch.no_grad()
    def intrinsic_reward(self, next_obs):
        predict, target = self.rnd(next_obs)
        return (predict - target).pow(2).sum(1) / 2

    def train_model(self, obs, actions, next_obs):
        bonus = self.intrinsic_reward(next_obs)
        logp = torch.log_softmax(self.policy(obs), 1).gather(1, actions)
        pg = -(logp.squeeze(1) * (bonus - bonus.mean())).mean()
        self.policy_opt.zero_grad()
        pg.backward()
        self.policy_opt.step()

        predict, target = self.rnd(next_obs)
        per_sample = nn.functional.mse_loss(predict, target, reduction="none").mean(-1)
        mask = (torch.rand(len(per_sample)) < self.update_proportion).float()
        forward_loss = (per_sample * mask).sum() / mask.sum().clamp_min(1)
        self.rnd_opt.zero_grad()
        forward_loss.backward()
        self.rnd_opt.step()
        return pg.item(), forward_loss.item()


if __name__ == "__main__":
    torch.manual_seed(14)
    agent = RNDAgent(6, 3)
    for _ in range(3):
        print(agent.train_model(torch.randn(32, 6), torch.randint(3, (32, 1)), torch.randn(32, 6)))

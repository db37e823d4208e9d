import torch
from torch import nn
from torch.distributions import Categorical


class ActorCritic(nn.Module):
    def __init__(self, obs=6, acts=3, hidden=24):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(obs, hidden), nn.Tanh())
        self.actor, self.critic = nn.Linear(hidden, acts), nn.Linear(hidden, 1)

    def evaluate(self, obs, action):
        h = self.trunk(obs)
        dist = Categorical(logits=self.actor(h))
        return dist.log_prob(action), self.critic(h).squeeze(-1), dist.entropy()


class PPO:
    def __init__(self, clip=0.2):
        self.net, self.clip = ActorCritic(), clip
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=3e-4)

    @torch.no_grad()
    def collect(self, n=32):
        obs, action, ret = torch.randn(n, 6), torch.randint(3, (n,)), torch.randn(n)
        logp, value, _ = self.net.evaluate(obs, action)
        return obs, action, logp, value, ret

    def update(self, batch, epochs=2):
        obs, action, old_logp, old_value, ret = batch
        adv = ret - old_value
        for _ in range(epochs):
            for idx in torch.randperm(len(obs)).chunk(4):
                logp, value, entropy = self.net.evaluate(obs[idx], action[idx])
                ratio = (logp - old_logp[idx]).exp()
                pg = -torch.min(ratio * adv[idx], ratio.clamp(1 - self.clip, 1 + self.clip) * adv[idx]).mean()
                clipped = old_value[idx] + (value - old_value[idx]).clamp(-self.clip, self.clip)
                vf = torch.max((value - ret[idx]) ** 2, (clipped - ret[idx]) ** 2).mean()
                loss = pg + 0.5 * vf - 0.01 * entropy.mean()
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
        return loss.item()


if __name__ == "__main__":
    torch.manual_seed(12)
    algo = PPO()
    for _ in range(2):
        print(algo.update(algo.collect()))

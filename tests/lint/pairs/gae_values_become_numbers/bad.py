import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Categorical


class ActorCritic(nn.Module):
    def __init__(self, obs=4, act=3, hidden=16):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(obs, hidden), nn.Tanh())
        self.pi = nn.Linear(hidden, act)
        self.v = nn.Linear(hidden, 1)

    def forward(self, x):
        h = self.body(x)
        return Categorical(logits=self.pi(h)), self.v(h).squeeze(-1)


def rollout(model, steps=6):
    logps, values, rewards = [], [], []
    state = torch.randn(4)
    for _ in range(steps):
        dist, value = model(state)
        action = dist.sample()
        logps.append(dist.log_prob(action))
        values.append(value.item())
        rewards.append(float(action == 1))
        state = torch.randn(4)
    return torch.stack(logps), torch.tensor(values), torch.tensor(rewards)


def returns_of(rewards, gamma=0.99):
    out, acc = [], 0.0
    for r in reversed(rewards.tolist()):
        acc = r + gamma * acc
        out.insert(0, acc)
    return torch.tensor(out)


def train_gae(epochs=4):
    model = ActorCritic()
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        logps, values, rewards = rollout(model)
        returns = returns_of(rewards)
        advantage = returns - values.detach()
        p_loss = -(logps * advantage).mean()
        v_loss = F.mse_loss(values, returns)
        loss = p_loss + 0.5 * v_loss
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(p_loss.item(), v_loss.item())


torch.manual_seed(8)
train_gae()

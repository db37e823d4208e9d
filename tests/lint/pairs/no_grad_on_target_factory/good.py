import copy

import torch
import torch.nn.functional as F
from torch import nn


class DuelingQ(nn.Module):
    def __init__(self, n_obs, n_actions, hidden=24):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_obs, hidden), nn.ReLU())
        self.adv, self.val = nn.Linear(hidden, n_actions), nn.Linear(hidden, 1)

    def forward(self, obs):
        h = self.body(obs)
        adv = self.adv(h)
        return self.val(h) + adv - adv.mean(1, keepdim=True)


def make_target(q_net, target_net, gamma):
    def target(reward, next_obs, done):
        best = q_net(next_obs).argmax(dim=1, keepdim=True)
        bootstrap = target_net(next_obs).gather(1, best).squeeze(1)
        return reward + gamma * (1.0 - done) * bootstrap

    return torch.no_grad()(target)


def make_learner(n_obs, n_actions, gamma=0.99, lr=1e-3, sync_every=3):
    q_net = DuelingQ(n_obs, n_actions)
    target_net = copy.deepcopy(q_net)
    optimizer = torch.optim.RMSprop(q_net.parameters(), lr=lr)
    target = make_target(q_net, target_net, gamma)
    count = 0

    def learn(obs, action, reward, next_obs, done):
        nonlocal count
        picked = q_net(obs).gather(1, action).squeeze(1)
        td_loss = F.smooth_l1_loss(picked, target(reward, next_obs, done))
        optimizer.zero_grad()
        td_loss.backward()
        optimizer.step()
        count += 1
        if count % sync_every == 0:
            target_net.load_state_dict(q_net.state_dict())
        return td_loss.item()

    return learn


if __name__ == "__main__":
    torch.manual_seed(26)
    learn = make_learner(5, 3)
    for _ in range(4):
        print(learn(torch.randn(16, 5), torch.randint(3, (16, 1)), torch.randn(16), torch.randn(16, 5), torch.zeros(16)))

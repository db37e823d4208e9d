import torch
from torch import nn


class Memory(list):
    def advantages(self, gamma=0.9):
        out, running = [], 0.0
        for t in reversed(self):
            running = t["reward"] + gamma * running
            out.append(running - t["value"].item())
        return torch.tensor(out[::-1])

    def stack(self, key):
        return torch.stack([t[key] for t in self]).squeeze()


torch.manual_seed(20)
policy, critic = nn.Linear(4, 2), nn.Linear(4, 1)
optimizer_p = torch.optim.Adam(policy.parameters(), lr=1e-2)
optimizer_c = torch.optim.Adam(critic.parameters(), lr=1e-2)
for episode in range(3):
    memory = Memory()
    for _ in range(8):
        obs = torch.randn(4)
        dist = torch.distributions.Categorical(logits=policy(obs))
        action = dist.sample()
        memory.append({"logp": dist.log_prob(action), "value": critic(obs), "reward": float(action)})
    adv = memory.advantages()
    policy_loss = -(memory.stack("logp") * adv).mean()
    value_loss = (adv + memory.stack("value").detach() - memory.stack("value")).pow(2).mean()
    optimizer_p.zero_grad()
    optimizer_c.zero_grad()
    (policy_loss + value_loss).backward()
    optimizer_p.step()
    optimizer_c.step()
    print(episode, policy_loss.item(), value_loss.item())

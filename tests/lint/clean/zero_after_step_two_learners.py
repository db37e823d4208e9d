import torch
from torch import nn


def apply_loss(loss, optimizer, params, clip=1.0):
    loss.backward()
    nn.utils.clip_grad_norm_(params, clip)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def main():
    torch.manual_seed(2)
    policy, value = nn.Linear(5, 3), nn.Linear(5, 1)
    policy_opt = torch.optim.Adam(policy.parameters(), lr=1e-3)
    value_opt = torch.optim.Adam(value.parameters(), lr=1e-3)
    for _ in range(3):
        obs, act, ret = torch.randn(16, 5), torch.randint(3, (16, 1)), torch.randn(16)
        v = value(obs).squeeze(1)
        logp = policy(obs).log_softmax(1).gather(1, act).squeeze(1)
        print(apply_loss(-(logp * (ret - v.detach())).mean(), policy_opt, policy.parameters()))
        print(apply_loss((ret - v).pow(2).mean(), value_opt, value.parameters()))


if __name__ == "__main__":
    main()

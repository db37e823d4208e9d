import torch
from torch import nn, optim


class Critics(nn.Module):
    """An ensemble whose members are registered under names that are put together."""

    def __init__(self, width, members):
        super().__init__()
        self.members = []
        for number in range(members):
            layers = [nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)]
            member = nn.Sequential(*layers)
            self.members.append(member)
            self.add_module(f"critic_{number}", member)

    def forward(self, state):
        return [member(state) for member in self.members]


class Agent:
    def __init__(self, width, members):
        self.critics = Critics(width, members)
        self.optimizer = optim.Adam(self.critics.parameters(), lr=1e-3)

    def update(self, state, target):
        self.optimizer.zero_grad()
        loss = sum((value - target).pow(2).mean() for value in self.critics(state))
        loss.backward()
        self.optimizer.step()

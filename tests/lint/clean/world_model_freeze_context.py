import torch
from torch import nn


class Freeze:
    def __init__(self, modules):
        self.modules = modules
        self.states = [p.requires_grad for m in modules for p in m.parameters()]

    def __enter__(self):
        for module in self.modules:
            for p in module.parameters():
                p.requires_grad = False

    def __exit__(self, *exc):
        number = 0
        for module in self.modules:
            for p in module.parameters():
                p.requires_grad = self.states[number]
                number += 1


class Agent:
    def __init__(self, width=8):
        self.encoder, self.cell, self.reward = nn.Linear(5, width), nn.GRUCell(width, width), nn.Linear(width, 1)
        self.actor, self.value = nn.Linear(width, width), nn.Linear(width, 1)
        self.world = [self.encoder, self.cell, self.reward]
        self.world_opt = torch.optim.Adam([p for m in self.world for p in m.parameters()])
        self.actor_opt = torch.optim.Adam(self.actor.parameters())
        self.value_opt = torch.optim.Adam(self.value.parameters())
        self.updates = 0

    def imagine(self, h, steps):
        states = []
        for _ in range(steps):
            h = self.cell(self.actor(h.detach()), h)
            states.append(h)
        return torch.stack(states)

    def update(self, obs, rewards):
        self.updates += 1
        state = self.cell(self.encoder(obs))
        model_loss = (self.reward(state) - rewards).pow(2).mean()
        self.world_opt.zero_grad()
        model_loss.backward()
        nn.utils.clip_grad_norm_([p for m in self.world for p in m.parameters()], 10.0)
        self.world_opt.step()

        with Freeze([*self.world, self.value]):
            imagined = self.imagine(state.detach(), 3)
            returns = self.reward(imagined) + 0.9 * self.value(imagined)
        actor_loss = -returns.mean()
        self.actor_opt.zero_grad()
        actor_loss.backward()
        self.actor_opt.step()

        if self.updates % 2 == 0:
            value_loss = (self.value(imagined.detach()) - returns.detach()).pow(2).mean()
            self.value_opt.zero_grad()
            value_loss.backward()
            self.value_opt.step()


if __name__ == "__main__":
    torch.manual_seed(0)
    agent = Agent()
    for _ in range(4):
        agent.update(torch.randn(6, 5), torch.randn(6, 1))

import torch
from torch import nn


class Strategy:
    def __init__(self, model, optimizer):
        self.model, self.optimizer = model, optimizer

    def grow(self, name):
        layer = nn.Linear(4, 4)
        self.model.add_module(name, layer)
        for parameter in layer.parameters():
            self.optimizer.param_groups[0]["params"].append(parameter)
        return layer

    def replace(self, name):
        layer = nn.Linear(4, 4)
        self.model.add_module(name, layer)
        self.optimizer.param_groups[0]["params"] = list(self.model.parameters())
        return layer


def learn(optimizer, weight):
    optimizer.zero_grad()
    loss = (weight - torch.randn(4, 4)).pow(2).mean()
    loss.backward()
    optimizer.step()


def fit(strategy):
    first, second = strategy.grow("first"), strategy.grow("second")
    learn(strategy.optimizer, first.weight + second.weight)


def refit(strategy):
    third = strategy.replace("first")
    learn(strategy.optimizer, third.weight)


model = nn.Sequential(nn.Linear(4, 4))
fit(Strategy(model, torch.optim.SGD(model.parameters(), lr=0.1)))
other = nn.Sequential(nn.Linear(4, 4))
refit(Strategy(other, torch.optim.SGD(other.parameters(), lr=0.1)))

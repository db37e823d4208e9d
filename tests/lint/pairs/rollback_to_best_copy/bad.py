import copy
import math

import torch
from torch import nn


class Fitter:
    def __init__(self, model, lr=0.5, patience=1):
        self.model = model
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr)
        self.best_loss, self.best_model = math.inf, None
        self.patience, self.bad_epochs, self.rollbacks = patience, 0, 0

    @torch.no_grad()
    def evaluate(self, data):
        self.model.eval()
        return sum(nn.functional.mse_loss(self.model(x), y).item() for x, y in data) / len(data)

    def on_epoch_end(self, val_loss):
        if val_loss < self.best_loss:
            self.best_loss = val_loss
            self.best_model = copy.deepcopy(self.model)
            self.bad_epochs = 0
            return
        self.bad_epochs += 1
        if self.bad_epochs >= self.patience:
            self.model = copy.deepcopy(self.best_model)
            for group in self.optimizer.param_groups:
                group["lr"] *= 0.5
            self.bad_epochs = 0
            self.rollbacks += 1

    def train_epoch(self, data):
        self.model.train()
        for x, y in data:
            loss = nn.functional.mse_loss(self.model(x), y)
            self.model.zero_grad()
            loss.backward()
            self.optimizer.step()
        return loss.item()

    def fit(self, train_data, val_data, epochs):
        for epoch in range(epochs):
            train_loss = self.train_epoch(train_data)
            val_loss = self.evaluate(val_data)
            self.on_epoch_end(val_loss)
            print(epoch, round(train_loss, 4), round(val_loss, 4), "rollbacks", self.rollbacks)


def main():
    torch.manual_seed(24)
    net = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 1))
    data = [(torch.randn(8, 5), torch.randn(8, 1)) for _ in range(4)]
    Fitter(net).fit(data[:2], data[2:], epochs=8)


if __name__ == "__main__":
    main()

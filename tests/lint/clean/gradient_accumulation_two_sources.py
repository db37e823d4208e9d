import torch
import torch.nn.functional as F
from torch import nn


class Semi:
    def __init__(self, accumulate=2):
        self.student = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        self.optimizer = torch.optim.SGD(self.student.parameters(), lr=0.05, momentum=0.9)
        self.accumulate = accumulate
        self.counter = 0
        self.optimizer.zero_grad()

    def supervised(self, x, y):
        loss = F.cross_entropy(self.student(x), y) / self.accumulate
        loss.backward()
        return loss.item()

    def consistency(self, x):
        with torch.no_grad():
            pseudo = self.student(x).softmax(1)
        loss = F.mse_loss(self.student(x + 0.1 * torch.randn_like(x)).softmax(1), pseudo) / self.accumulate
        loss.backward()
        return loss.item()

    def maybe_step(self):
        self.counter += 1
        if self.counter % self.accumulate:
            return
        self.optimizer.step()
        self.optimizer.zero_grad()


if __name__ == "__main__":
    torch.manual_seed(14)
    semi = Semi()
    for _ in range(4):
        print(semi.supervised(torch.randn(6, 8), torch.randint(3, (6,))), semi.consistency(torch.randn(6, 8)))
        semi.maybe_step()

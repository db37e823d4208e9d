import torch
import torch.nn.functional as F
from torch import nn


class LSLR(nn.Module):
    def __init__(self, names, steps, init=0.1):
        super().__init__()
        self.rates = nn.ParameterDict({n: nn.Parameter(init * torch.ones(steps)) for n in names})

    def update(self, weights, grads, step):
        return {n: w - self.rates[n][step] * g for (n, w), g in zip(weights.items(), grads)}


class Learner(nn.Module):
    def __init__(self, dim=1, hidden=16):
        super().__init__()
        self.w1 = nn.Parameter(torch.randn(hidden, dim) * 0.5)
        self.w2 = nn.Parameter(torch.randn(dim, hidden) * 0.2)

    def forward(self, x, weights):
        return torch.tanh(x @ weights["w1"].t()) @ weights["w2"].t()


class MetaTrainer:
    def __init__(self, steps=2):
        self.learner = Learner()
        self.lslr = LSLR(["w1", "w2"], steps)
        self.steps = steps
        self.meta_opt = torch.optim.Adam(self.learner.parameters(), lr=1e-2)

    def episode(self, xs, ys, xq, yq):
        weights = dict(self.learner.named_parameters())
        for step in range(self.steps):
            inner = F.mse_loss(self.learner(xs, weights), ys)
            grads = torch.autograd.grad(inner, list(weights.values()), create_graph=True)
            weights = self.lslr.update(weights, grads, step)
        return F.mse_loss(self.learner(xq, weights), yq)

    def train(self, tasks):
        meta_loss = torch.stack([self.episode(*task) for task in tasks]).mean()
        self.meta_opt.zero_grad()
        meta_loss.backward()
        self.meta_opt.step()
        return meta_loss.item()


if __name__ == "__main__":
    torch.manual_seed(20)
    trainer = MetaTrainer()
    for _ in range(4):
        tasks = [[torch.randn(5, 1) for _ in range(4)] for _ in range(3)]
        print(trainer.train(tasks))

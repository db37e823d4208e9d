import copy

import torch
import torch.nn as nn
from torch.func import functional_call


class Regressor(nn.Module):
    def __init__(self, hidden=16):
        super().__init__()
        self.fc1 = nn.Linear(1, hidden)
        self.fc2 = nn.Linear(hidden, 1)

    def forward(self, x):
        return self.fc2(torch.tanh(self.fc1(x)))


class MetaLearner:
    def __init__(self, model, inner_lr=0.05, outer_lr=1e-2, inner_steps=2):
        self.model = model
        self.inner_lr = inner_lr
        self.inner_steps = inner_steps
        self.criterion = nn.MSELoss()
        self.meta_optimizer = torch.optim.Adam(self.model.parameters(), lr=outer_lr)

    def adapt(self, support_x, support_y):
        fast = dict(self.model.named_parameters())
        for _ in range(self.inner_steps):
            loss = self.criterion(functional_call(self.model, fast, (support_x,)), support_y)
            grads = torch.autograd.grad(loss, tuple(fast.values()), create_graph=True)
            fast = {k: p - self.inner_lr * g for (k, p), g in zip(fast.items(), grads)}
        return lambda x: functional_call(self.model, fast, (x,))

    def meta_train_step(self, tasks):
        meta_loss = 0.0
        for support_x, support_y, query_x, query_y in tasks:
            learner = self.adapt(support_x, support_y)
            meta_loss = meta_loss + self.criterion(learner(query_x), query_y)
        meta_loss = meta_loss / len(tasks)
        self.meta_optimizer.zero_grad()
        meta_loss.backward()
        self.meta_optimizer.step()
        return meta_loss.item()


def sine_task(n=8):
    amp, phase = torch.rand(()) * 4 + 0.5, torch.rand(()) * 3
    xs, xq = torch.rand(n, 1) * 6 - 3, torch.rand(n, 1) * 6 - 3
    return xs, amp * torch.sin(xs + phase), xq, amp * torch.sin(xq + phase)


if __name__ == "__main__":
    torch.manual_seed(5)
    learner = MetaLearner(Regressor())
    for it in range(3):
        print(it, learner.meta_train_step([sine_task() for _ in range(3)]))

import copy

import torch
from torch import nn

torch.manual_seed(9)
model = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
meta_lr = 0.3
for iteration in range(4):
    phase = torch.rand(()) * 3
    learner = copy.deepcopy(model)
    inner_opt = torch.optim.SGD(learner.parameters(), lr=0.05)
    for _ in range(5):
        x = torch.rand(10, 1) * 4
        loss = nn.functional.mse_loss(learner(x), torch.sin(x + phase))
        inner_opt.zero_grad()
        loss.backward()
        inner_opt.step()
    with torch.no_grad():
        for p, q in zip(model.parameters(), learner.parameters()):
            p.add_(meta_lr * (q - p))
    print(iteration, loss.item())

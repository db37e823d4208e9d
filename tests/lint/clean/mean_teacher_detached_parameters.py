import copy

import torch
import torch.nn.functional as F
from torch import nn


def create_model(ema_of=None):
    model = copy.deepcopy(ema_of) if ema_of is not None else nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    if ema_of is not None:
        for param in model.parameters():
            param.detach_()
    return model


torch.manual_seed(0)
model = create_model()
ema_model = create_model(ema_of=model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for global_step in range(4):
    x, y = torch.randn(6, 8), torch.randint(3, (6,))
    logits, ema_logits = model(x), ema_model(x + 0.1 * torch.randn_like(x))
    loss = F.cross_entropy(logits, y) + F.mse_loss(logits.softmax(1), ema_logits.softmax(1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    alpha = min(1 - 1 / (global_step + 1), 0.99)
    for ema_param, param in zip(ema_model.parameters(), model.parameters()):
        ema_param.data.mul_(alpha).add_(param.data, alpha=1 - alpha)
print(loss.item())

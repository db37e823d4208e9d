import torch
from torch import nn


class GradReverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, lambd):
        ctx.lambd = lambd
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return -ctx.lambd * grad, None


class DANN(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
        self.label = nn.Linear(16, 3)
        self.domain = nn.Linear(16, 2)

    def forward(self, x, lambd):
        h = self.features(x)
        return self.label(h), self.domain(GradReverse.apply(h, lambd))


torch.manual_seed(6)
model = DANN()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for i in range(3):
    src, y, tgt = torch.randn(6, 8), torch.randint(3, (6,)), torch.randn(6, 8)
    optimizer.zero_grad()
    logits, d_src = model(src, 0.5)
    _, d_tgt = model(tgt, 0.5)
    loss = nn.functional.cross_entropy(logits, y)
    loss = loss + nn.functional.cross_entropy(torch.cat([d_src, d_tgt]), torch.tensor([0] * 6 + [1] * 6))
    loss.backward()
    optimizer.step()
    print(i, loss.item())

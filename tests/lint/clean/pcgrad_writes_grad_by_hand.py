import torch
from torch import nn


def project(grads):
    out = [g.clone() for g in grads]
    for i, g in enumerate(out):
        for j, other in enumerate(grads):
            dot = torch.dot(g, other)
            if i != j and dot < 0:
                g -= dot / other.norm() ** 2 * other
    return torch.stack(out).sum(0)


torch.manual_seed(10)
trunk = nn.Sequential(nn.Linear(6, 12), nn.ReLU())
heads = nn.ModuleList([nn.Linear(12, 1), nn.Linear(12, 1)])
optimizer = torch.optim.Adam([*trunk.parameters(), *heads.parameters()], lr=1e-2)
shared = list(trunk.parameters())
for _ in range(3):
    x, ys = torch.randn(8, 6), torch.randn(2, 8, 1)
    h = trunk(x)
    losses = [nn.functional.mse_loss(head(h), y) for head, y in zip(heads, ys)]
    flat = []
    for loss in losses:
        flat.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, shared, retain_graph=True)]))
    optimizer.zero_grad()
    sum(losses).backward(inputs=list(heads.parameters()))
    merged = project(flat)
    for p, piece in zip(shared, merged.split([p.numel() for p in shared])):
        p.grad = piece.view_as(p).clone()
    optimizer.step()
    print([v.item() for v in losses])

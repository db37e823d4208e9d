import torch
from torch import nn
from torch.func import functional_call

torch.manual_seed(8)
net = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
meta_opt = torch.optim.Adam(net.parameters(), lr=1e-2)
for _ in range(3):
    meta_opt.zero_grad()
    for _ in range(4):
        amp = torch.rand(())
        xs, xq = torch.rand(8, 1), torch.rand(8, 1)
        fast = dict(net.named_parameters())
        for _ in range(2):
            inner = nn.functional.mse_loss(functional_call(net, fast, (xs,)), amp * xs.sin())
            grads = torch.autograd.grad(inner, list(fast.values()), create_graph=True)
            fast = {name: p - 0.1 * g for (name, p), g in zip(fast.items(), grads)}
        query = nn.functional.mse_loss(functional_call(net, fast, (xq,)), amp * xq.sin())
        (query / 4).backward()
    meta_opt.step()
    print(query.item())

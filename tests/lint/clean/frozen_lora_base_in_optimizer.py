import torch
from torch import nn


class LoRALinear(nn.Module):
    def __init__(self, base, r=2):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.A = nn.Parameter(torch.randn(r, base.in_features) * 0.1)
        self.B = nn.Parameter(torch.zeros(base.out_features, r))

    def forward(self, x):
        return self.base(x) + x @ self.A.t() @ self.B.t()


torch.manual_seed(14)
model = nn.Sequential(LoRALinear(nn.Linear(6, 12)), nn.ReLU(), LoRALinear(nn.Linear(12, 2)))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
for _ in range(4):
    loss = nn.functional.mse_loss(model(torch.randn(8, 6)), torch.randn(8, 2))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item())

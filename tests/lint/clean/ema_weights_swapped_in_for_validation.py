import torch
from torch import nn


class EMA:
    def __init__(self, model, decay=0.99):
        self.model, self.decay = model, decay
        self.shadow = {n: p.detach().clone() for n, p in model.named_parameters()}
        self.saved = {}

    def update(self):
        for name, param in self.model.named_parameters():
            self.shadow[name] = self.decay * self.shadow[name] + (1.0 - self.decay) * param.detach()

    def apply_shadow(self):
        for name, param in self.model.named_parameters():
            self.saved[name] = param.data
            param.data = self.shadow[name]

    def restore(self):
        for name, param in self.model.named_parameters():
            param.data = self.saved[name]
        self.saved = {}


@torch.no_grad()
def validate(model, x, y):
    return nn.functional.mse_loss(model(x), y).item()


def main():
    torch.manual_seed(6)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))
    ema = EMA(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    x, y = torch.randn(32, 6), torch.randn(32, 1)
    for _ in range(4):
        loss = nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        ema.update()
        ema.apply_shadow()
        score = validate(model, x, y)
        ema.restore()
        print(loss.item(), score)


if __name__ == "__main__":
    main()

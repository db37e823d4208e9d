import torch
from torch import nn

EXPERT_SPECS = [
    {"hidden": 16, "lr": 1e-3},
    {"hidden": 24, "lr": 5e-4},
    {"hidden": 32, "lr": 1e-4},
]


def make_expert(hidden, n_in=6, n_out=2):
    return nn.Sequential(nn.Linear(n_in, hidden), nn.SiLU(), nn.Linear(hidden, n_out))


def build(specs):
    experts, makers = [], []
    for spec in specs:
        net = make_expert(spec["hidden"])
        experts.append(net)
        makers.append(lambda net=net, spec=spec: torch.optim.Adam(net.parameters(), lr=spec["lr"]))
    return experts, makers


def bootstrap(x, y):
    idx = torch.randint(len(x), (len(x),))
    return x[idx], y[idx]


def train(experts, optimizers, x, y, epochs=2):
    history = []
    for _ in range(epochs):
        for k, (expert, optimizer) in enumerate(zip(experts, optimizers)):
            bx, by = bootstrap(x, y)
            loss = gaussian_nll(*expert_out(expert, bx), by)
            expert.zero_grad()
            loss.backward()
            optimizer.step()
            history.append((k, loss.item()))
    return history


def expert_out(expert, x):
    mean, raw = expert(x).chunk(2, dim=1)
    return mean, nn.functional.softplus(raw) + 1e-3


def gaussian_nll(mean, var, y):
    return 0.5 * (var.log() + (y - mean) ** 2 / var).mean()


def gaussian_target(x):
    return x.sum(1, keepdim=True).sin()


if __name__ == "__main__":
    torch.manual_seed(29)
    experts, makers = build(EXPERT_SPECS)
    optimizers = [make() for make in makers]
    x = torch.randn(40, 6)
    for k, value in train(experts, optimizers, x, gaussian_target(x)):
        print(k, round(value, 4))

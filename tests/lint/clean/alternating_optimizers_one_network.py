import torch
from torch import nn


def run_phase(model, optimizer, batches):
    for x, y in batches:
        loss = nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def main():
    torch.manual_seed(15)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))
    batches = [(torch.randn(8, 4), torch.randn(8, 1)) for _ in range(3)]
    warmup = torch.optim.SGD(model[2].parameters(), lr=0.1)
    print("head", run_phase(model, warmup, batches))
    full = torch.optim.AdamW(model.parameters(), lr=1e-3)
    print("full", run_phase(model, full, batches))


if __name__ == "__main__":
    main()

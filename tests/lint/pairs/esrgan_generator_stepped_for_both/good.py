import torch
from torch import nn


def block(cin, cout):
    return nn.Sequential(nn.Linear(cin, 24), nn.LeakyReLU(0.2), nn.Linear(24, cout))


def define_model():
    return block(8, 16), block(16, 1)


def define_optimizer(d_model, g_model):
    d_optimizer = torch.optim.Adam(d_model.parameters(), 1e-3, (0.9, 0.99))
    g_optimizer = torch.optim.Adam(g_model.parameters(), 1e-3, (0.9, 0.99))
    return d_optimizer, g_optimizer


def train(d_model, g_model, d_optimizer, g_optimizer, batches):
    criterion = nn.BCEWithLogitsLoss()
    for lr, gt in batches:
        ones, zeros = torch.ones(len(gt), 1), torch.zeros(len(gt), 1)
        for p in d_model.parameters():
            p.requires_grad = False
        g_model.zero_grad(set_to_none=True)
        sr = g_model(lr)
        g_loss = nn.functional.l1_loss(sr, gt) + 0.005 * criterion(d_model(sr), ones)
        g_loss.backward()
        g_optimizer.step()

        for p in d_model.parameters():
            p.requires_grad = True
        d_model.zero_grad(set_to_none=True)
        d_loss = criterion(d_model(gt), ones) + criterion(d_model(sr.detach()), zeros)
        d_loss.backward()
        d_optimizer.step()
        print(g_loss.item(), d_loss.item())


if __name__ == "__main__":
    torch.manual_seed(2)
    g_model, d_model = define_model()
    d_optimizer, g_optimizer = define_optimizer(d_model, g_model)
    data = [(torch.randn(6, 8), torch.randn(6, 16)) for _ in range(3)]
    train(d_model, g_model, d_optimizer, g_optimizer, data)

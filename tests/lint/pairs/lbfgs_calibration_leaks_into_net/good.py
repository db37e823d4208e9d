import torch
from torch import nn, optim
import torch.nn.functional as F


class CalibratedTrainer:
    def __init__(self, net, lr=0.05):
        self.net = net
        self.temperature = nn.Parameter(torch.ones(1) * 1.5)
        self.opt = optim.SGD(net.parameters(), lr=lr, momentum=0.9)

    def fit_batch(self, x, y):
        loss = F.cross_entropy(self.net(x), y)
        loss.backward()
        self.opt.step()
        self.opt.zero_grad()
        return loss.item()

    def calibrate(self, x_val, y_val, max_iter=5):
        with torch.no_grad():
            logits = self.net(x_val)
        optimizer = optim.LBFGS([self.temperature], lr=0.1, max_iter=max_iter)

        def closure():
            optimizer.zero_grad()
            nll = F.cross_entropy(logits / self.temperature, y_val)
            nll.backward(retain_graph=True)
            return nll

        return optimizer.step(closure).item()

    @torch.no_grad()
    def predict(self, x):
        return F.softmax(self.net(x) / self.temperature, dim=1)


def main():
    torch.manual_seed(20)
    net = nn.Sequential(nn.Linear(7, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 4))
    trainer = CalibratedTrainer(net)
    x_val, y_val = torch.randn(24, 7), torch.randint(4, (24,))
    for epoch in range(3):
        for _ in range(2):
            train_loss = trainer.fit_batch(torch.randn(16, 7), torch.randint(4, (16,)))
        nll = trainer.calibrate(x_val, y_val)
        print(epoch, train_loss, nll, trainer.temperature.item())
    return trainer.predict(x_val)


if __name__ == "__main__":
    main()

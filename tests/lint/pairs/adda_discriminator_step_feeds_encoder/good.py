import itertools

import torch
from torch import nn


def encoder():
    return nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 6))


class Experiment:
    def __init__(self):
        self.src_cnn, self.tgt_cnn = encoder(), encoder()
        self.clf = nn.Linear(6, 3)
        self.disc = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 1))
        self.src_optim = torch.optim.Adam(itertools.chain(self.src_cnn.parameters(), self.clf.parameters()), lr=1e-3)
        self.tgt_optim = torch.optim.Adam(self.tgt_cnn.parameters(), lr=1e-4)
        self.d_optim = torch.optim.Adam(self.disc.parameters(), lr=1e-4)
        self.bce = nn.BCEWithLogitsLoss()

    def adversarial(self, xs, ys, xt):
        for optim in (self.src_optim, self.tgt_optim, self.d_optim):
            optim.zero_grad()
        fs, ft = self.src_cnn(xs), self.tgt_cnn(xt)
        pred = self.disc(torch.cat([fs, ft]).detach())
        domain = torch.cat([torch.ones(len(xs), 1), torch.zeros(len(xt), 1)])
        d_loss = self.bce(pred, domain)
        d_loss.backward()
        self.d_optim.step()

        cls_loss = nn.functional.cross_entropy(self.clf(self.src_cnn(xs)), ys)
        cls_loss.backward()
        self.src_optim.step()

        self.tgt_optim.zero_grad()
        t_loss = self.bce(self.disc(self.tgt_cnn(xt)), torch.ones(len(xt), 1))
        t_loss.backward()
        self.tgt_optim.step()
        return d_loss.item(), cls_loss.item(), t_loss.item()


if __name__ == "__main__":
    torch.manual_seed(18)
    exp = Experiment()
    for _ in range(3):
        print(exp.adversarial(torch.randn(8, 10), torch.randint(3, (8,)), torch.randn(8, 10)))

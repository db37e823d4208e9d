import torch
import torch.nn as nn
import torch.nn.functional as F


def build_cohort(sizes, n_in=10, n_classes=5):
    return [nn.Sequential(nn.Linear(n_in, h), nn.BatchNorm1d(h), nn.ReLU(), nn.Linear(h, n_classes)) for h in sizes]


class AverageMeter:
    def __init__(self):
        self.total, self.count = 0.0, 0

    def update(self, value, n=1):
        self.total += value * n
        self.count += n

    @property
    def avg(self):
        return self.total / max(self.count, 1)


def kl(student_logits, peer_logits):
    return F.kl_div(F.log_softmax(student_logits, dim=1), F.softmax(peer_logits, dim=1), reduction="batchmean")


def train_one_epoch(models, optimizers, loader):
    meters = [AverageMeter() for _ in models]
    for images, labels in loader:
        outputs = [model(images) for model in models]
        for optimizer in optimizers:
            optimizer.zero_grad()
        for i in range(len(models)):
            ce_loss = F.cross_entropy(outputs[i], labels)
            kl_loss = 0
            for j in range(len(models)):
                if i != j:
                    kl_loss = kl_loss + kl(outputs[i], outputs[j])
            loss_i = ce_loss + kl_loss / (len(models) - 1)
            loss_i.backward(retain_graph=True)
            meters[i].update(loss_i.item(), len(labels))
        for optimizer in optimizers:
            optimizer.step()
    return [m.avg for m in meters]


if __name__ == "__main__":
    torch.manual_seed(38)
    models = build_cohort([16, 24, 32])
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9, nesterov=True) for m in models]
    data = [(torch.randn(12, 10), torch.randint(5, (12,))) for _ in range(3)]
    for epoch in range(2):
        print(epoch, train_one_epoch(models, optimizers, data))

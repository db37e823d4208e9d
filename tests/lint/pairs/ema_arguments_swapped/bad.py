import copy

import torch
import torch.nn as nn
import torch.nn.functional as F

from averaging import sigmoid_rampup, update_ema


def augment(x, strength=0.1):
    return x + strength * torch.randn_like(x)


class TwoStream:
    def __init__(self, labeled, unlabeled):
        self.labeled, self.unlabeled = labeled, unlabeled

    def __iter__(self):
        for (x, y), u in zip(self.labeled, self.unlabeled):
            yield x, y, u


def train_epoch(student, teacher, optimizer, stream, epoch, max_weight=1.0):
    student.train()
    teacher.train()
    for step, (x, y, u) in enumerate(stream):
        logits = student(augment(torch.cat([x, u])))
        with torch.no_grad():
            ema_logits = teacher(augment(torch.cat([x, u])))
        class_loss = F.cross_entropy(logits[: len(x)], y)
        weight = max_weight * sigmoid_rampup(epoch, 3)
        consistency = F.mse_loss(logits.softmax(1), ema_logits.softmax(1))
        loss = class_loss + weight * consistency
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay = min(1 - 1 / (step + 2), 0.99)
        update_ema(student, teacher, decay)
    return class_loss.item(), consistency.item()


def main():
    torch.manual_seed(40)
    student = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 4))
    teacher = copy.deepcopy(student)
    for p in teacher.parameters():
        p.detach_()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    labeled = [(torch.randn(6, 8), torch.randint(4, (6,))) for _ in range(3)]
    unlabeled = [torch.randn(12, 8) for _ in range(3)]
    for epoch in range(3):
        print(epoch, train_epoch(student, teacher, optimizer, TwoStream(labeled, unlabeled), epoch))


if __name__ == "__main__":
    main()

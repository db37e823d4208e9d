import itertools

import torch
import torch.nn as nn
from torch.autograd import Function


class ReverseLayerF(Function):
    @staticmethod
    def forward(ctx, x, alpha):
        ctx.alpha = alpha
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad_output):
        return -ctx.alpha * grad_output, None


class DomainClassifier(nn.Module):
    def __init__(self, n_features):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_features, 20), nn.ReLU(), nn.Linear(20, 2))

    def forward(self, feature, alpha):
        return self.layers(ReverseLayerF.apply(feature, alpha))


def alpha_schedule(i, total):
    return 2.0 / (1.0 + torch.exp(torch.tensor(-10.0 * i / total)).item()) - 1


torch.manual_seed(11)
extractor = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 10), nn.ReLU())
label_classifier = nn.Linear(10, 4)
domain_classifier = DomainClassifier(10)
optimizer = torch.optim.SGD(
    itertools.chain(extractor.parameters(), label_classifier.parameters(), domain_classifier.parameters()),
    lr=0.01, momentum=0.9)
xe = nn.CrossEntropyLoss()

n_batches = 6
for i in range(n_batches):
    src, labels, tgt = torch.randn(8, 12), torch.randint(4, (8,)), torch.randn(8, 12) + 1
    features = extractor(torch.cat([src, tgt]))
    label_loss = xe(label_classifier(features[:8]), labels)

    domain_labels = torch.cat([torch.zeros(8), torch.ones(8)]).long()
    h = domain_classifier(features.detach(), alpha_schedule(i + 1, n_batches))
    domain_loss = xe(h, domain_labels)

    total = label_loss + domain_loss
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
    print(f"{i} label {label_loss.item():.3f} domain {domain_loss.item():.3f}")

import torch
import torch.nn as nn
import torch.nn.functional as F

OPS = {
    "none": lambda d: nn.Identity(),
    "linear": lambda d: nn.Linear(d, d),
    "glu": lambda d: nn.Sequential(nn.Linear(d, 2 * d), nn.GLU()),
}


class MixedOp(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.ops = nn.ModuleList([make(dim) for make in OPS.values()])

    def forward(self, x, weights):
        return sum(w * op(x) for w, op in zip(weights, self.ops))


class SearchNet(nn.Module):
    def __init__(self, dim=8, n_cells=3, classes=4):
        super().__init__()
        self.stem = nn.Linear(10, dim)
        self.cells = nn.ModuleList([MixedOp(dim) for _ in range(n_cells)])
        self.classifier = nn.Linear(dim, classes)
        self.alphas = nn.ParameterList([nn.Parameter(1e-3 * torch.randn(len(OPS))) for _ in range(n_cells)])

    def forward(self, x):
        x = self.stem(x)
        for cell, alpha in zip(self.cells, self.alphas):
            x = x + cell(x, F.softmax(alpha, dim=-1))
        return self.classifier(x)

    def arch_parameters(self):
        return list(self.alphas.parameters())

    def weight_parameters(self):
        return [p for n, p in self.named_parameters() if not n.startswith("alphas")]


def train(train_queue, valid_queue, model, architect, optimizer):
    for (x, y), (x_search, y_search) in zip(train_queue, valid_queue):
        architect.zero_grad()
        arch_loss = F.cross_entropy(model(x_search), y_search)
        arch_loss.backward(inputs=model.arch_parameters())
        architect.step()

        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    return arch_loss.item(), loss.item()


def queue(n):
    return [(torch.randn(8, 10), torch.randint(4, (8,))) for _ in range(n)]


if __name__ == "__main__":
    torch.manual_seed(47)
    model = SearchNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.025, momentum=0.9, weight_decay=3e-4)
    architect = torch.optim.Adam(model.arch_parameters(), lr=3e-3, betas=(0.5, 0.999))
    for epoch in range(2):
        print(epoch, train(queue(3), queue(3), model, architect, optimizer))
        print([[round(v, 3) for v in F.softmax(a, -1).tolist()] for a in model.alphas])

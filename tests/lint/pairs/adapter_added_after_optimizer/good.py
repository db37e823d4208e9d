import torch
from torch import nn

NO_DECAY = ("bias", "norm.weight")


class EncoderLayer(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.ff = nn.Linear(d, d)
        self.norm = nn.LayerNorm(d)

    def forward(self, x):
        return self.norm(x + torch.relu(self.ff(x)))


class AdapterModel(nn.Module):
    def __init__(self, d=10, n_layers=2, n_labels=3):
        super().__init__()
        self.encoder = nn.ModuleList([EncoderLayer(d) for _ in range(n_layers)])
        self.adapters = nn.ModuleDict()
        self.classifier = nn.Linear(d, n_labels)
        self.active = None

    def add_adapter(self, name, reduction=4):
        d = self.classifier.in_features
        self.adapters[name] = nn.Sequential(nn.Linear(d, d // reduction), nn.GELU(), nn.Linear(d // reduction, d))

    def train_adapter(self, name):
        self.encoder.requires_grad_(False)
        self.active = name

    def forward(self, x):
        for layer in self.encoder:
            x = layer(x)
        if self.active is not None:
            x = x + self.adapters[self.active](x)
        return self.classifier(x.mean(1))


def get_optimizer(model, lr=5e-3, weight_decay=0.01):
    grouped = [
        {"params": [p for n, p in model.named_parameters() if not any(nd in n for nd in NO_DECAY)], "weight_decay": weight_decay},
        {"params": [p for n, p in model.named_parameters() if any(nd in n for nd in NO_DECAY)], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(grouped, lr=lr)


def run(task_name="sst", epochs=2):
    torch.manual_seed(3)
    model = AdapterModel()
    model.add_adapter(task_name)
    model.train_adapter(task_name)
    optimizer = get_optimizer(model)
    loader = [(torch.randn(6, 5, 10), torch.randint(3, (6,))) for _ in range(3)]
    for epoch in range(epochs):
        for tokens, labels in loader:
            loss = nn.functional.cross_entropy(model(tokens), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())


if __name__ == "__main__":
    run()

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset


class BertishClassifier(nn.Module):
    def __init__(self, vocab=40, dim=12, classes=3):
        super().__init__()
        self.embeddings = nn.Embedding(vocab, dim)
        self.encoder = nn.TransformerEncoderLayer(dim, nhead=2, dim_feedforward=24, dropout=0.0, batch_first=True)
        self.pooler = nn.Sequential(nn.Linear(dim, dim), nn.Tanh())
        self.classifier = nn.Linear(dim, classes)

    def freeze_encoder(self):
        for module in (self.embeddings, self.encoder):
            module.requires_grad_(False)

    def unfreeze_encoder(self):
        for p in self.encoder.parameters():
            p.requires_grad = True

    def forward(self, ids):
        h = self.encoder(self.embeddings(ids))
        return self.classifier(self.pooler(h[:, 0]))


def make_optimizer(clf, lr):
    return torch.optim.AdamW(filter(lambda p: p.requires_grad, clf.parameters()), lr=lr)


def run(epochs=4, unfreeze_epoch=2, lr=1e-3):
    torch.manual_seed(31)
    clf = BertishClassifier()
    clf.freeze_encoder()
    optimizer = make_optimizer(clf, lr)
    loader = DataLoader(TensorDataset(torch.randint(40, (24, 6)), torch.randint(3, (24,))), batch_size=8)
    for epoch in range(epochs):
        if epoch == unfreeze_epoch:
            clf.unfreeze_encoder()
        running = 0.0
        for ids, labels in loader:
            loss = nn.functional.cross_entropy(clf(ids), labels)
            clf.zero_grad()
            loss.backward()
            optimizer.step()
            running += loss.item()
        print(f"epoch {epoch} loss {running / len(loader):.4f}")


if __name__ == "__main__":
    run()

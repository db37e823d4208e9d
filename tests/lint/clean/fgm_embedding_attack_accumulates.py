import torch
from torch import nn


class FGM:
    def __init__(self, model, eps=0.5):
        self.model, self.eps, self.backup = model, eps, {}

    def attack(self, name="embedding"):
        for key, param in self.model.named_parameters():
            if param.requires_grad and name in key:
                self.backup[key] = param.data.clone()
                norm = param.grad.norm()
                if norm != 0:
                    param.data.add_(self.eps * param.grad / norm)

    def restore(self):
        for key, param in self.model.named_parameters():
            if key in self.backup:
                param.data = self.backup[key]
        self.backup = {}


class TextModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.rnn = nn.GRU(8, 8, batch_first=True)
        self.fc = nn.Linear(8, 2)

    def forward(self, ids):
        return self.fc(self.rnn(self.embedding(ids))[0][:, -1])


torch.manual_seed(4)
model = TextModel()
fgm = FGM(model)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
criterion = nn.CrossEntropyLoss()
for _ in range(3):
    ids, labels = torch.randint(20, (4, 6)), torch.randint(2, (4,))
    loss = criterion(model(ids), labels)
    loss.backward()
    fgm.attack()
    loss_adv = criterion(model(ids), labels)
    loss_adv.backward()
    fgm.restore()
    optimizer.step()
    model.zero_grad()
    print(loss.item(), loss_adv.item())

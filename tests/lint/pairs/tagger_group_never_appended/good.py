import torch
from torch import nn


class Tagger(nn.Module):
    def __init__(self, vocab=30, dim=12, tags=5):
        super().__init__()
        self.bert = nn.Embedding(vocab, dim)
        self.vision = nn.Linear(8, dim)
        self.fc = nn.Linear(dim, tags)

    def forward(self, ids, image):
        h = torch.tanh(self.bert(ids) + self.vision(image).unsqueeze(1))
        return self.fc(h)


class Trainer:
    def __init__(self, model, lr=1e-3):
        self.model = model
        self.lr = lr
        self.optimizer = None

    def multimodal_before_train(self):
        parameters = []
        params = {"lr": self.lr, "weight_decay": 1e-2}
        params["params"] = list(self.model.bert.parameters())
        parameters.append(params)

        params = {"lr": self.lr, "weight_decay": 1e-2}
        params["params"] = list(self.model.vision.parameters())
        parameters.append(params)

        params = {"lr": 5e-2, "weight_decay": 1e-2}
        params["params"] = list(self.model.fc.parameters())
        parameters.append(params)

        self.optimizer = torch.optim.AdamW(parameters)

    def train(self, batches):
        self.multimodal_before_train()
        for ids, image, labels in batches:
            logits = self.model(ids, image)
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            print(loss.item())


if __name__ == "__main__":
    torch.manual_seed(5)
    data = [(torch.randint(30, (4, 6)), torch.randn(4, 8), torch.randint(5, (4, 6))) for _ in range(3)]
    Trainer(Tagger()).train(data)

import warnings

import torch
import torch.nn as nn
from torch.utils.checkpoint import checkpoint

warnings.filterwarnings("ignore", message="None of the inputs have requires_grad")


class Adapter(nn.Module):
    def __init__(self, dim, rank=3):
        super().__init__()
        self.down, self.up = nn.Linear(dim, rank, bias=False), nn.Linear(rank, dim, bias=False)

    def forward(self, x):
        return x + self.up(torch.relu(self.down(x)))


class Block(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.mlp = nn.Linear(dim, dim)
        self.adapter = Adapter(dim)

    def forward(self, x):
        return x + self.adapter(torch.tanh(self.mlp(self.norm(x))))


class PeftModel(nn.Module):
    def __init__(self, vocab=30, dim=12, depth=2, n_labels=4):
        super().__init__()
        self.embed = nn.Embedding(vocab, dim)
        self.blocks = nn.ModuleList([Block(dim) for _ in range(depth)])
        self.score = nn.Linear(dim, n_labels)
        self.gradient_checkpointing = False

    def mark_only_adapters_as_trainable(self):
        for name, p in self.named_parameters():
            p.requires_grad = "adapter" in name or name.startswith("score")

    def forward(self, ids):
        h = self.embed(ids)
        for block in self.blocks:
            if self.gradient_checkpointing and self.training:
                h = checkpoint(block, h, use_reentrant=True)
            else:
                h = block(h)
        return self.score(h.mean(1))


if __name__ == "__main__":
    torch.manual_seed(42)
    model = PeftModel(depth=1)
    model.mark_only_adapters_as_trainable()
    model.gradient_checkpointing = True
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for step in range(4):
        ids, labels = torch.randint(30, (6, 5)), torch.randint(4, (6,))
        loss = nn.functional.cross_entropy(model(ids), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(step, loss.item())

import torch
import torch.nn as nn

from lora_converter import apply_lora


class Block(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.wq = nn.Linear(dim, dim, bias=False)
        self.w1 = nn.Linear(dim, 2 * dim, bias=False)
        self.w2 = nn.Linear(2 * dim, dim, bias=False)

    def forward(self, x):
        return self.w2(torch.relu(self.w1(self.wq(x))))


class Transformer(nn.Module):
    def __init__(self, vocab=20, dim=8, depth=2):
        super().__init__()
        self.tok_embeddings = nn.Embedding(vocab, dim)
        self.layers = nn.ModuleList([Block(dim) for _ in range(depth)])
        self.norms = nn.ModuleList([nn.LayerNorm(dim) for _ in range(depth)])
        self.output = nn.Linear(dim, vocab, bias=False)

    def forward(self, tokens):
        h = self.tok_embeddings(tokens)
        for layer, norm in zip(self.layers, self.norms):
            h = h + layer(norm(h))
        return self.output(h)


def build_optimizer(model, lr=1e-2):
    params = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.AdamW(params, lr=lr)


def main():
    torch.manual_seed(12)
    model = Transformer()
    for p in model.parameters():
        p.requires_grad_(False)
    apply_lora(model, rank=2)
    optimizer = build_optimizer(model)
    for step in range(4):
        tokens = torch.randint(20, (4, 7))
        logits = model(tokens[:, :-1])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(step, loss.item())


if __name__ == "__main__":
    main()

import logging

import torch
import torch.nn as nn

logging.basicConfig(level=logging.INFO, format="%(message)s")
log = logging.getLogger("finetune")


class Captioner(nn.Module):
    def __init__(self, vocab=16, dim=10):
        super().__init__()
        self.vision = nn.Sequential(nn.Linear(8, dim), nn.GELU(), nn.Linear(dim, dim))
        self.embed = nn.Embedding(vocab, dim)
        self.decoder = nn.GRU(dim, dim, batch_first=True)
        self.head = nn.Linear(dim, vocab)

    def forward(self, image, text):
        h0 = self.vision(image).unsqueeze(0)
        out, _ = self.decoder(self.embed(text), h0)
        return self.head(out)


def count(params):
    return sum(p.numel() for p in params)


def configure_optimizers(model, base_lr=1e-3):
    head_params = model.head.parameters()
    body_params = [p for n, p in model.named_parameters() if not n.startswith("head.") and "vision" not in n]
    vision_params = list(model.vision.parameters())
    log.info("head %d body %d vision %d", count(head_params), count(body_params), count(vision_params))
    groups = [
        {"params": body_params, "lr": base_lr},
        {"params": vision_params, "lr": base_lr * 0.1},
        {"params": head_params, "lr": base_lr * 10},
    ]
    return torch.optim.AdamW(groups, lr=base_lr)


def main():
    torch.manual_seed(30)
    model = Captioner()
    optimizer = configure_optimizers(model)
    for step in range(4):
        image, text = torch.randn(4, 8), torch.randint(16, (4, 7))
        logits = model(image, text[:, :-1])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten())
        model.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        log.info("step %d loss %.4f", step, loss.item())


if __name__ == "__main__":
    main()

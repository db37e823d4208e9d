import torch


def make_batch(n, length, vocab):
    return {
        "chosen": torch.randint(vocab, (n, length)),
        "rejected": torch.randint(vocab, (n, length)),
        "prompt_len": 2,
    }


def sequence_logps(logits, labels, prompt_len):
    logps = torch.log_softmax(logits[:, :-1], dim=-1)
    picked = logps.gather(2, labels[:, 1:].unsqueeze(2)).squeeze(2)
    mask = torch.arange(picked.size(1)) >= prompt_len
    return (picked * mask).sum(-1)


def concatenated_forward(model, batch):
    ids = torch.cat([batch["chosen"], batch["rejected"]])
    logps = sequence_logps(model(ids), ids, batch["prompt_len"])
    return logps.chunk(2)

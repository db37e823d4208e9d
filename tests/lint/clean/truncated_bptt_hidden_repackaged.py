import torch
from torch import nn


def repackage_hidden(h):
    if isinstance(h, torch.Tensor):
        return h.detach()
    return tuple(repackage_hidden(v) for v in h)


torch.manual_seed(13)
embed, rnn, decoder = nn.Embedding(20, 8), nn.LSTM(8, 12), nn.Linear(12, 20)
params = [p for m in (embed, rnn, decoder) for p in m.parameters()]
data = torch.randint(20, (31, 4))
hidden = (torch.zeros(1, 4, 12), torch.zeros(1, 4, 12))
for i in range(0, 30, 10):
    hidden = repackage_hidden(hidden)
    output, hidden = rnn(embed(data[i : i + 10]), hidden)
    loss = nn.functional.cross_entropy(decoder(output).flatten(0, 1), data[i + 1 : i + 11].flatten())
    for p in params:
        p.grad = None
    loss.backward()
    nn.utils.clip_grad_norm_(params, 0.25)
    with torch.no_grad():
        for p in params:
            p -= 0.5 * p.grad
    print(loss.item())

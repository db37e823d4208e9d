import torch
from torch import nn

torch.manual_seed(5)
encoder = nn.GRU(6, 10, batch_first=True)
decoder = nn.GRU(6, 10, batch_first=True)
out = nn.Linear(10, 6)
encoder_optimizer = torch.optim.SGD(encoder.parameters(), lr=0.05)
decoder_optimizer = torch.optim.SGD([*decoder.parameters(), *out.parameters()], lr=0.25)


def train(source, target):
    encoder_optimizer.zero_grad()
    decoder_optimizer.zero_grad()
    _, hidden = encoder(source)
    loss = 0
    token = torch.zeros_like(target[:, :1])
    for t in range(target.size(1)):
        step, hidden = decoder(token, hidden)
        prediction = out(step)
        loss = loss + nn.functional.mse_loss(prediction, target[:, t : t + 1])
        token = prediction.detach()
    loss.backward()
    encoder_optimizer.step()
    decoder_optimizer.step()
    return loss.item() / target.size(1)


for _ in range(3):
    print(train(torch.randn(4, 5, 6), torch.randn(4, 3, 6)))

import torch
import torch.nn.functional as F
from torch import nn


class VectorQuantizer(nn.Module):
    def __init__(self, n=8, dim=4, beta=0.25):
        super().__init__()
        self.codebook = nn.Embedding(n, dim)
        self.beta = beta

    def forward(self, inputs):
        distances = torch.cdist(inputs, self.codebook.weight)
        quantized = self.codebook(distances.argmin(dim=1))
        encoding_loss = F.mse_loss(inputs, quantized.detach())
        codebook_loss = F.mse_loss(quantized, inputs.detach())
        quantized = inputs + (quantized - inputs).detach()
        return quantized, codebook_loss + self.beta * encoding_loss


class VQVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(10, 4), nn.Linear(4, 10)
        self.quantizer = VectorQuantizer()

    def forward(self, x):
        z, vq_loss = self.quantizer(self.encoder(x))
        return self.decoder(z), vq_loss


def fit(steps=4):
    model = VQVAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(steps):
        x = torch.randn(16, 10)
        recon, vq_loss = model(x)
        loss = F.mse_loss(recon, x) + vq_loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(loss.item(), vq_loss.item())


torch.manual_seed(14)
fit()

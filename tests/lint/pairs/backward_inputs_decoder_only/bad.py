import torch
import torch.nn as nn
import torch.nn.functional as F


class PerceptualNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.slices = nn.ModuleList([nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, stride=2)])

    def forward(self, x):
        feats = []
        for layer in self.slices:
            x = torch.relu(layer(x))
            feats.append(x)
        return feats


class AutoencoderTrainer:
    def __init__(self, latent=6, lr=2e-3):
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, latent))
        self.decoder = nn.Sequential(nn.Linear(latent, 32), nn.ReLU(), nn.Linear(32, 64), nn.Unflatten(1, (1, 8, 8)))
        self.perceptual = PerceptualNet()
        self.enc_params = list(self.encoder.parameters())
        self.dec_params = list(self.decoder.parameters())
        self.optimizer = torch.optim.Adam(self.enc_params + self.dec_params, lr=lr)
        self.ema_loss = None

    def perceptual_distance(self, a, b):
        return sum(F.l1_loss(x, y) for x, y in zip(self.perceptual(a), self.perceptual(b)))

    def update(self, images):
        recon = self.decoder(self.encoder(images))
        loss = F.mse_loss(recon, images) + 0.1 * self.perceptual_distance(recon, images)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward(inputs=self.dec_params)
        self.optimizer.step()
        value = loss.item()
        self.ema_loss = value if self.ema_loss is None else 0.9 * self.ema_loss + 0.1 * value
        return self.ema_loss

    @torch.no_grad()
    def encode_dataset(self, batches):
        return torch.cat([self.encoder(x) for x in batches])


if __name__ == "__main__":
    torch.manual_seed(36)
    trainer = AutoencoderTrainer()
    data = [torch.rand(8, 1, 8, 8) for _ in range(4)]
    for images in data:
        print(trainer.update(images))
    print(trainer.encode_dataset(data).shape)

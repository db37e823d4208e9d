import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.parametrizations import weight_norm


class ResBlock(nn.Module):
    def __init__(self, channels, dilation):
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 3, dilation=dilation, padding=dilation)

    def forward(self, x):
        return x + self.conv(F.leaky_relu(x, 0.1))


class Vocoder(nn.Module):
    def __init__(self, n_mels=6, channels=8):
        super().__init__()
        self.pre = nn.Conv1d(n_mels, channels, 3, padding=1)
        self.blocks = nn.ModuleList([ResBlock(channels, d) for d in (1, 3)])
        self.post = nn.Conv1d(channels, 1, 3, padding=1)

    def forward(self, mel):
        x = self.pre(F.interpolate(mel, scale_factor=4))
        for block in self.blocks:
            x = block(x)
        return torch.tanh(self.post(F.leaky_relu(x)))


def add_weight_norm(m):
    if isinstance(m, nn.Conv1d):
        weight_norm(m)


def spectral_loss(pred, target, n_fft=16):
    window = torch.hann_window(n_fft)
    a = torch.stft(pred.squeeze(1), n_fft, window=window, return_complex=True).abs()
    b = torch.stft(target.squeeze(1), n_fft, window=window, return_complex=True).abs()
    return F.l1_loss(a, b)


def train(steps=3):
    torch.manual_seed(23)
    net = Vocoder()
    net.apply(add_weight_norm)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, betas=(0.8, 0.99))
    for step in range(steps):
        mel, wav = torch.randn(2, 6, 16), torch.rand(2, 1, 64) * 2 - 1
        loss = spectral_loss(net(mel), wav)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(step, loss.item())


if __name__ == "__main__":
    train()

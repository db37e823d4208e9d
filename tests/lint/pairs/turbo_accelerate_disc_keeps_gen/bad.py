import itertools

import torch
import torch.nn as nn
import torch.nn.functional as F


class Accelerator:
    def __init__(self, gradient_accumulation_steps=1):
        self.gradient_accumulation_steps = gradient_accumulation_steps

    def prepare(self, *objects):
        return objects

    def backward(self, loss):
        (loss / self.gradient_accumulation_steps).backward()

    def clip_grad_norm_(self, params, max_norm):
        return nn.utils.clip_grad_norm_(params, max_norm)


class TurboGenerator(nn.Module):
    def __init__(self):
        super().__init__()
        self.vae_down = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.unet = nn.Conv2d(6, 6, 3, padding=1)
        self.vae_up = nn.ConvTranspose2d(6, 3, 4, stride=2, padding=1)

    def forward(self, c_t):
        return torch.tanh(self.vae_up(F.silu(self.unet(F.silu(self.vae_down(c_t))))))


class CLIPDisc(nn.Module):
    def __init__(self):
        super().__init__()
        self.cv = nn.Conv2d(3, 8, 4, stride=4)
        self.decoder = nn.Linear(8, 1)

    def forward(self, x, for_real=True):
        logits = self.decoder(F.leaky_relu(self.cv(x), 0.2).mean((2, 3)))
        return F.softplus(-logits) if for_real else F.softplus(logits)


def main():
    torch.manual_seed(7)
    accelerator = Accelerator()
    net_pix2pix, net_disc = TurboGenerator(), CLIPDisc()
    gen_layers = itertools.chain(net_pix2pix.unet.parameters(), net_pix2pix.vae_up.parameters(), net_pix2pix.vae_down.parameters())
    optimizer = torch.optim.AdamW(gen_layers, lr=5e-4)
    optimizer_disc = torch.optim.AdamW(net_disc.parameters(), lr=5e-4)
    net_pix2pix, net_disc, optimizer, optimizer_disc = accelerator.prepare(net_pix2pix, net_disc, optimizer, optimizer_disc)

    for step in range(3):
        x_src, x_tgt = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
        x_tgt_pred = net_pix2pix(x_src)
        loss = F.mse_loss(x_tgt_pred, x_tgt)
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

        x_tgt_pred = net_pix2pix(x_src)
        lossG = net_disc(x_tgt_pred, for_real=True).mean() * 0.5
        accelerator.backward(lossG)
        accelerator.clip_grad_norm_(net_pix2pix.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

        lossD_real = net_disc(x_tgt, for_real=True).mean() * 0.5
        accelerator.backward(lossD_real)
        lossD_fake = net_disc(x_tgt_pred.detach(), for_real=False).mean() * 0.5
        accelerator.backward(lossD_fake)
        accelerator.clip_grad_norm_(net_disc.parameters(), 1.0)
        optimizer_disc.step()
        optimizer_disc.zero_grad(set_to_none=True)
    print(lossG.item(), lossD_real.item() + lossD_fake.item())


if __name__ == "__main__":
    main()

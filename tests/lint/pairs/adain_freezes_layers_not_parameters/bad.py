import torch
import torch.nn as nn
import torch.nn.functional as F


def calc_mean_std(feat, eps=1e-5):
    flat = feat.flatten(2)
    return flat.mean(2)[..., None, None], (flat.var(2) + eps).sqrt()[..., None, None]


def adain(content, style):
    c_mean, c_std = calc_mean_std(content)
    s_mean, s_std = calc_mean_std(style)
    return (content - c_mean) / c_std * s_std + s_mean


class Net(nn.Module):
    def __init__(self, encoder, decoder):
        super().__init__()
        layers = list(encoder.children())
        self.enc_1 = nn.Sequential(*layers[:2])
        self.enc_2 = nn.Sequential(*layers[2:])
        self.decoder = decoder
        for name in ("enc_1", "enc_2"):
            for layer in getattr(self, name).children():
                layer.requires_grad = False

    def encode_with_intermediate(self, x):
        first = self.enc_1(x)
        return first, self.enc_2(first)

    def forward(self, content, style):
        style_feats = self.encode_with_intermediate(style)
        t = adain(self.encode_with_intermediate(content)[-1], style_feats[-1])
        g_feats = self.encode_with_intermediate(self.decoder(t))
        loss_c = F.mse_loss(g_feats[-1], t)
        loss_s = 0.0
        for g, s in zip(g_feats, style_feats):
            for a, b in zip(calc_mean_std(g), calc_mean_std(s)):
                loss_s = loss_s + F.mse_loss(a, b)
        return loss_c, loss_s


torch.manual_seed(48)
vgg = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.ReLU())
decoder = nn.Sequential(nn.Conv2d(8, 6, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(6, 3, 3, padding=1))
network = Net(vgg, decoder)
network.train()
optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

for i in range(4):
    content_images, style_images = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    loss_c, loss_s = network(content_images, style_images)
    loss = loss_c + 0.5 * loss_s
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(i, loss_c.item(), loss_s.item())

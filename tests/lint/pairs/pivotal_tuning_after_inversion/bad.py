import torch
import torch.nn as nn
import torch.nn.functional as F


class Synthesis(nn.Module):
    def __init__(self, w_dim=6, ch=8):
        super().__init__()
        self.const = nn.Parameter(torch.randn(1, ch, 4, 4))
        self.affine = nn.Linear(w_dim, ch)
        self.to_rgb = nn.Conv2d(ch, 3, 3, padding=1)

    def forward(self, w):
        style = self.affine(w)[:, :, None, None]
        x = F.interpolate(self.const * (1 + style), scale_factor=2)
        return torch.tanh(self.to_rgb(F.leaky_relu(x, 0.2)))


def edge_distance(a, b):
    kernel = torch.tensor([[-1.0, 0.0, 1.0]]).view(1, 1, 1, 3).expand(3, 1, 1, 3)
    return F.mse_loss(F.conv2d(a, kernel, groups=3), F.conv2d(b, kernel, groups=3))


class Coach:
    def __init__(self, G, first_inv_steps=4, pti_steps=3):
        self.G = G
        self.first_inv_steps, self.pti_steps = first_inv_steps, pti_steps
        self.optimizer = torch.optim.Adam(G.parameters(), lr=3e-4)

    def project(self, target):
        G = self.G
        w_pivot = torch.zeros(1, 6, requires_grad=True)
        latent_opt = torch.optim.Adam([w_pivot], lr=0.05)
        for _ in range(self.first_inv_steps):
            image = G(w_pivot)
            inversion_loss = F.mse_loss(image, target) + 0.1 * edge_distance(image, target)
            latent_opt.zero_grad()
            inversion_loss.backward()
            latent_opt.step()
        return w_pivot.detach()

    def train(self, targets):
        for name, target in targets.items():
            w_pivot = self.project(target)
            for _ in range(self.pti_steps):
                loss = F.mse_loss(self.G(w_pivot), target)
                loss.backward()
                self.optimizer.step()
                self.optimizer.zero_grad()
            print(name, loss.item())


if __name__ == "__main__":
    torch.manual_seed(46)
    coach = Coach(Synthesis())
    coach.train({"face": torch.rand(1, 3, 8, 8), "car": torch.rand(1, 3, 8, 8)})

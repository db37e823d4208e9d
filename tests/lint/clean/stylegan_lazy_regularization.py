import torch
import torch.nn.functional as F
from torch import autograd, nn, optim


def requires_grad(model, flag=True):
    for p in model.parameters():
        p.requires_grad = flag


def d_r1_loss(real_pred, real_img):
    (grad_real,) = autograd.grad(outputs=real_pred.sum(), inputs=real_img, create_graph=True)
    return grad_real.pow(2).reshape(grad_real.shape[0], -1).sum(1).mean()


def train(generator, discriminator, g_optim, d_optim, iterations=4, d_reg_every=2):
    for i in range(iterations):
        real_img = torch.randn(6, 10)
        requires_grad(generator, False)
        requires_grad(discriminator, True)
        fake_img = generator(torch.randn(6, 4))
        d_loss = F.softplus(discriminator(fake_img)).mean() + F.softplus(-discriminator(real_img)).mean()
        discriminator.zero_grad()
        d_loss.backward()
        d_optim.step()

        if i % d_reg_every == 0:
            real_img.requires_grad = True
            real_pred = discriminator(real_img)
            r1_loss = d_r1_loss(real_pred, real_img)
            discriminator.zero_grad()
            (5.0 * r1_loss * d_reg_every + 0 * real_pred[0]).sum().backward()
            d_optim.step()

        requires_grad(generator, True)
        requires_grad(discriminator, False)
        g_loss = F.softplus(-discriminator(generator(torch.randn(6, 4)))).mean()
        generator.zero_grad()
        g_loss.backward()
        g_optim.step()
        print(i, d_loss.item(), g_loss.item())


if __name__ == "__main__":
    torch.manual_seed(5)
    generator = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 10))
    discriminator = nn.Sequential(nn.Linear(10, 16), nn.Softplus(), nn.Linear(16, 1))
    g_optim = optim.Adam(generator.parameters(), lr=2e-3, betas=(0.0, 0.99))
    d_optim = optim.Adam(discriminator.parameters(), lr=2e-3, betas=(0.0, 0.99))
    train(generator, discriminator, g_optim, d_optim)

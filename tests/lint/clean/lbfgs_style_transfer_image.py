import torch
from torch import nn


def gram(x):
    f = x.flatten(2)
    return f @ f.transpose(1, 2) / f.numel()


torch.manual_seed(16)
cnn = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1)).eval()
content, style = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)
content_target, style_target = cnn(content).detach(), gram(cnn(style)).detach()
input_img = content.clone().requires_grad_(True)
optimizer = torch.optim.LBFGS([input_img], max_iter=4)
run = [0]


def closure():
    optimizer.zero_grad()
    feats = cnn(input_img)
    loss = nn.functional.mse_loss(feats, content_target) + 100 * nn.functional.mse_loss(gram(feats), style_target)
    loss.backward()
    run[0] += 1
    return loss


for _ in range(2):
    optimizer.step(closure)
print(run[0], closure().item())

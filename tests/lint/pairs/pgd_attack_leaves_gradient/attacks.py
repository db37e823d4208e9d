import torch
import torch.nn.functional as F


def pgd_linf(model, x, y, epsilon, alpha, steps):
    delta = torch.empty_like(x).uniform_(-epsilon, epsilon)
    for _ in range(steps):
        delta.requires_grad_(True)
        attack_loss = F.cross_entropy(model(x + delta), y)
        attack_loss.backward()
        with torch.no_grad():
            delta = (delta + alpha * delta.grad.sign()).clamp(-epsilon, epsilon)
    return (x + delta).clamp(0, 1).detach()

import torch


class GanTrainer:
    """Trains with functions of its user, who detaches: ``lambda fake, real: d(fake.detach())``."""

    def __init__(self, g_network, g_optimizer, g_loss_function, d_optimizer, d_loss_function):
        self.g_network, self.g_optimizer = g_network, g_optimizer
        self.d_optimizer = d_optimizer
        self.g_loss_function, self.d_loss_function = g_loss_function, d_loss_function

    def iteration(self, real, turns=2):
        fake = self.g_network(torch.randn(len(real), 64))
        for _ in range(turns):
            self.d_optimizer.zero_grad()
            d_loss = self.d_loss_function(fake, real)
            d_loss.backward()
            self.d_optimizer.step()

        fake = self.g_network(torch.randn(len(real), 64))
        self.g_optimizer.zero_grad()
        g_loss = self.g_loss_function(fake)
        g_loss.backward()
        self.g_optimizer.step()

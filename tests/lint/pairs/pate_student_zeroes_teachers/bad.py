import torch
from torch import nn, optim


def make_disc(dim):
    return nn.Sequential(nn.Linear(dim, 20), nn.LeakyReLU(0.2), nn.Linear(20, 1))


class PATEGAN:
    def __init__(self, dim=6, latent=4, num_teachers=3, noise=0.1):
        self.latent, self.noise = latent, noise
        self.generator = nn.Sequential(nn.Linear(latent, 20), nn.ReLU(), nn.Linear(20, dim))
        self.student_disc = make_disc(dim)
        self.teacher_disc = [make_disc(dim) for _ in range(num_teachers)]
        self.optimizer_g = optim.Adam(self.generator.parameters(), lr=1e-3)
        self.optimizer_s = optim.Adam(self.student_disc.parameters(), lr=1e-3)
        self.optimizer_t = [optim.Adam(d.parameters(), lr=1e-3) for d in self.teacher_disc]
        self.criterion = nn.BCEWithLogitsLoss()

    def sample(self, n):
        with torch.no_grad():
            return self.generator(torch.randn(n, self.latent))

    def vote(self, x):
        with torch.no_grad():
            votes = torch.stack([(d(x) > 0).float() for d in self.teacher_disc]).sum(0)
        noisy = votes + self.noise * torch.randn_like(votes)
        return (noisy > len(self.teacher_disc) / 2).float()

    def train(self, partitions, iterations=2, n=8):
        student_disc = self.student_disc
        for _ in range(iterations):
            for part, netD, optimizer in zip(partitions, self.teacher_disc, self.optimizer_t):
                netD.zero_grad()
                real, fake = part[torch.randint(len(part), (n,))], self.sample(n)
                t_loss = self.criterion(netD(real), torch.ones(n, 1)) + self.criterion(netD(fake), torch.zeros(n, 1))
                t_loss.backward()
                optimizer.step()

            for _ in range(2):
                netD.zero_grad()
                fake = self.sample(n)
                student_loss = self.criterion(student_disc(fake), self.vote(fake))
                student_loss.backward()
                self.optimizer_s.step()

            self.generator.zero_grad()
            student_disc.requires_grad_(False)
            g_loss = self.criterion(student_disc(self.generator(torch.randn(n, self.latent))), torch.ones(n, 1))
            g_loss.backward()
            self.optimizer_g.step()
            student_disc.requires_grad_(True)
        return student_loss.item(), g_loss.item()


if __name__ == "__main__":
    torch.manual_seed(35)
    print(PATEGAN().train([torch.randn(30, 6) for _ in range(3)]))

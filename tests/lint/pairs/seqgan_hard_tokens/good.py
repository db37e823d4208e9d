import torch
import torch.nn as nn
import torch.nn.functional as F

VOCAB, LENGTH = 12, 6


class Generator(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.start = nn.Linear(4, dim)
        self.rnn = nn.GRUCell(VOCAB, dim)
        self.out = nn.Linear(dim, VOCAB)

    def forward(self, noise, tau=1.0):
        h = torch.tanh(self.start(noise))
        token = torch.zeros(len(noise), VOCAB)
        tokens, logits = [], []
        for _ in range(LENGTH):
            h = self.rnn(token, h)
            step_logits = self.out(h)
            gumbel = -torch.log(-torch.log(torch.rand_like(step_logits).clamp(1e-6, 1 - 1e-6)))
            token = F.gumbel_softmax(step_logits, tau=tau, hard=True)
            tokens.append(token)
            logits.append(step_logits)
        return torch.stack(tokens, 1), torch.stack(logits, 1)


class Discriminator(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.rnn = nn.GRU(VOCAB, dim, batch_first=True)
        self.score = nn.Linear(dim, 1)

    def forward(self, onehots):
        return self.score(self.rnn(onehots)[0][:, -1])


def entropy(logits):
    logp = logits.log_softmax(-1)
    return -(logp.exp() * logp).sum(-1).mean()


def main(iters=3, ent_coef=0.01):
    torch.manual_seed(44)
    gen, dis = Generator(), Discriminator()
    gen_opt = torch.optim.Adam(gen.parameters(), lr=1e-2)
    dis_opt = torch.optim.Adam(dis.parameters(), lr=1e-2)
    for it in range(iters):
        real = F.one_hot(torch.randint(VOCAB, (8, LENGTH)), VOCAB).float()
        fake, _ = gen(torch.randn(8, 4))
        d_loss = F.softplus(-dis(real)).mean() + F.softplus(dis(fake.detach())).mean()
        dis_opt.zero_grad()
        d_loss.backward()
        dis_opt.step()

        fake, logits = gen(torch.randn(8, 4))
        adv_loss = F.softplus(-dis(fake)).mean()
        g_loss = adv_loss - ent_coef * entropy(logits)
        gen_opt.zero_grad()
        g_loss.backward()
        gen_opt.step()
        print(it, d_loss.item(), adv_loss.item())


if __name__ == "__main__":
    main()

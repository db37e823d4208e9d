import torch
import torch.nn as nn


class PixelEncoder(nn.Module):
    def __init__(self, feature_dim):
        super().__init__()
        self.convs = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU())
        self.fc = nn.Linear(4 * 9, feature_dim)
        self.ln = nn.LayerNorm(feature_dim)

    def forward(self, obs):
        return self.ln(self.fc(self.convs(obs).flatten(1)))


class CURL(nn.Module):
    def __init__(self, z_dim):
        super().__init__()
        self.query_encoder = PixelEncoder(z_dim)
        self.key_encoder = PixelEncoder(z_dim)
        self.key_encoder.load_state_dict(self.query_encoder.state_dict())
        self.W = nn.Parameter(torch.rand(z_dim, z_dim))

    def encode(self, x, detach=False, ema=False):
        z_out = self.key_encoder(x) if ema else self.query_encoder(x)
        return z_out.detach() if detach else z_out

    def compute_logits(self, z_a, z_pos):
        logits = z_a @ (self.W @ z_pos.T)
        return logits - logits.max(1, keepdim=True)[0]


class CurlAgent:
    def __init__(self, z_dim=8, tau=0.05):
        self.CURL = CURL(z_dim)
        self.tau = tau
        self.cross_entropy_loss = nn.CrossEntropyLoss()
        self.cpc_optimizer = torch.optim.Adam([{"params": [self.CURL.W]}, {"params": self.CURL.query_encoder.parameters(), "lr": 5e-4}], lr=1e-3)

    def update_cpc(self, obs_anchor, obs_pos):
        z_a = self.CURL.encode(obs_anchor)
        z_pos = self.CURL.encode(obs_pos, ema=True)
        logits = self.CURL.compute_logits(z_a, z_pos)
        loss = self.cross_entropy_loss(logits, torch.arange(logits.shape[0]))
        self.cpc_optimizer.zero_grad()
        loss.backward()
        self.cpc_optimizer.step()
        return loss.item()

    @torch.no_grad()
    def soft_update(self):
        for q, k in zip(self.CURL.query_encoder.parameters(), self.CURL.key_encoder.parameters()):
            k.lerp_(q, self.tau)


def random_shift(img):
    return torch.roll(img, shifts=(int(torch.randint(3, ())), 0), dims=(2, 3))


if __name__ == "__main__":
    torch.manual_seed(2)
    agent = CurlAgent()
    for step in range(4):
        frames = torch.rand(6, 3, 11, 11)
        print(step, agent.update_cpc(random_shift(frames), random_shift(frames)))
        if step % 2 == 0:
            agent.soft_update()

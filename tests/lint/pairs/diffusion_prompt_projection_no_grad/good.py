import torch
import torch.nn as nn
import torch.nn.functional as F


class TinyUNet(nn.Module):
    def __init__(self, dim=8, ctx=6):
        super().__init__()
        self.time = nn.Embedding(20, dim)
        self.cross = nn.Linear(ctx, dim)
        self.net = nn.Sequential(nn.Linear(dim, 32), nn.SiLU(), nn.Linear(32, dim))

    def forward(self, sample, timesteps, encoder_hidden_states):
        return self.net(sample + self.time(timesteps) + self.cross(encoder_hidden_states))


class Pipeline:
    def __init__(self, vocab=30, width=10, ctx=6):
        self.text_encoder = nn.EmbeddingBag(vocab, width)
        self.text_projection = nn.Linear(width, ctx)
        self.unet = TinyUNet(ctx=ctx)
        self.alphas_cumprod = torch.cumprod(1 - torch.linspace(1e-3, 0.1, 20), 0)

    def encode_prompt(self, prompt_ids, drop_prob=0.0):
        embeds = self.text_projection(self.text_encoder(prompt_ids))
        if drop_prob > 0:
            keep = (torch.rand(len(embeds), 1) > drop_prob).float()
            embeds = embeds * keep
        return embeds

    def add_noise(self, x, noise, t):
        a = self.alphas_cumprod[t].unsqueeze(1)
        return a.sqrt() * x + (1 - a).sqrt() * noise

    @torch.no_grad()
    def sample(self, prompt_ids, steps=3):
        x, ctx = torch.randn(len(prompt_ids), 8), self.encode_prompt(prompt_ids)
        for t in torch.linspace(19, 0, steps).long():
            x = x - 0.1 * self.unet(x, t.expand(len(x)), ctx)
        return x


def main(max_train_steps=4, lr=1e-3):
    torch.manual_seed(27)
    pipe = Pipeline()
    pipe.text_encoder.requires_grad_(False)
    params_to_optimize = [*pipe.unet.parameters(), *pipe.text_projection.parameters()]
    optimizer = torch.optim.AdamW(params_to_optimize, lr=lr)
    for step in range(max_train_steps):
        latents, prompt_ids = torch.randn(8, 8), torch.randint(30, (8, 5))
        noise, t = torch.randn_like(latents), torch.randint(20, (8,))
        ctx = pipe.encode_prompt(prompt_ids, drop_prob=0.1)
        model_pred = pipe.unet(pipe.add_noise(latents, noise, t), t, ctx)
        loss = F.mse_loss(model_pred, noise)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(params_to_optimize, 1.0)
        optimizer.step()
        print(step, loss.item())
    return pipe.sample(torch.randint(30, (2, 5)))


if __name__ == "__main__":
    main()

import torch
import torch.nn as nn
import torch.nn.functional as F


class TextEncoder(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.transformer = nn.TransformerEncoderLayer(dim, nhead=2, dim_feedforward=16, dropout=0.0, batch_first=True)
        self.text_projection = nn.Linear(dim, dim, bias=False)

    def forward(self, prompts):
        return self.text_projection(self.transformer(prompts)[:, -1])


class PromptLearner(nn.Module):
    def __init__(self, n_classes, n_ctx, dim):
        super().__init__()
        self.ctx = nn.Parameter(0.02 * torch.randn(n_ctx, dim))
        self.register_buffer("name_embed", torch.randn(n_classes, 1, dim))

    def forward(self):
        ctx = self.ctx.unsqueeze(0).expand(len(self.name_embed), -1, -1)
        return torch.cat([ctx, self.name_embed], dim=1)


class CustomCLIP(nn.Module):
    def __init__(self, n_classes=5, n_ctx=4, dim=8):
        super().__init__()
        self.prompt_learner = PromptLearner(n_classes, n_ctx, dim)
        self.text_encoder = TextEncoder(dim)
        self.image_encoder = nn.Linear(12, dim)
        self.image_scale = nn.Parameter(torch.ones(dim))
        self.logit_scale = torch.tensor(10.0)
        for module in (self.text_encoder, self.image_encoder):
            module.requires_grad_(False)

    def encode_text(self):
        prompts = self.prompt_learner()
        text_features = self.text_encoder(prompts)
        return F.normalize(text_features, dim=-1)

    def forward(self, image):
        image_features = F.normalize(self.image_encoder(image) * self.image_scale, dim=-1)
        return self.logit_scale * image_features @ self.encode_text().t()


class CoOpTrainer:
    def __init__(self, lr=0.02):
        self.model = CustomCLIP()
        trainable = [*self.model.prompt_learner.parameters(), self.model.image_scale]
        self.optim = torch.optim.SGD(trainable, lr=lr)

    def forward_backward(self, image, label):
        model = self.model
        loss = F.cross_entropy(model(image), label)
        self.optim.zero_grad()
        loss.backward()
        self.optim.step()
        return loss.item()


if __name__ == "__main__":
    torch.manual_seed(43)
    trainer = CoOpTrainer()
    for _ in range(4):
        print(trainer.forward_backward(torch.randn(10, 12), torch.randint(5, (10,))))

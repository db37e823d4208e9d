import torch
from torch import nn


class AutoEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(4, 2), nn.Linear(2, 4)
        self.critic = nn.Linear(4, 1)

    def forward(self, x):
        return self.decoder(self.encoder(x))


model = AutoEncoder()
critic_parameters = set(model.critic.parameters())
rest = set(model.parameters()) - critic_parameters
optimizer = torch.optim.Adam(rest, lr=1e-3)
critic_optimizer = torch.optim.Adam(critic_parameters, lr=1e-3)

for _ in range(3):
    real = torch.randn(8, 4)
    fake = model(real)
    loss = (fake - real).pow(2).mean() - model.critic(fake).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

    critic_loss = model.critic(model(real).detach()).mean() - model.critic(real).mean()
    critic_optimizer.zero_grad()
    critic_loss.backward()
    critic_optimizer.step()

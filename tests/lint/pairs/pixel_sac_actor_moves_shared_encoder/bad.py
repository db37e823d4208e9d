import torch
import torch.nn as nn
import torch.nn.functional as F


class Encoder(nn.Module):
    def __init__(self, feature_dim=10, n_filters=4):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3, n_filters, 3, stride=2), nn.Conv2d(n_filters, n_filters, 3)])
        self.fc = nn.Linear(n_filters * 9, feature_dim)

    def forward(self, obs, detach=False):
        h = obs
        for conv in self.convs:
            h = torch.relu(conv(h))
        h = h.flatten(1)
        if detach:
            h = h.detach()
        return torch.tanh(self.fc(h))

    def copy_conv_weights_from(self, source):
        for mine, theirs in zip(self.convs, source.convs):
            mine.weight, mine.bias = theirs.weight, theirs.bias


class Actor(nn.Module):
    def __init__(self, action_dim):
        super().__init__()
        self.encoder = Encoder()
        self.trunk = nn.Sequential(nn.Linear(10, 24), nn.ReLU(), nn.Linear(24, action_dim), nn.Tanh())

    def forward(self, obs, detach_encoder=False):
        return self.trunk(self.encoder(obs, detach=detach_encoder))


class Critic(nn.Module):
    def __init__(self, action_dim):
        super().__init__()
        self.encoder = Encoder()
        self.Q = nn.Sequential(nn.Linear(10 + action_dim, 24), nn.ReLU(), nn.Linear(24, 1))

    def forward(self, obs, action, detach_encoder=False):
        return self.Q(torch.cat([self.encoder(obs, detach=detach_encoder), action], dim=1))


class PixelAgent:
    def __init__(self, action_dim=2):
        self.actor, self.critic, self.critic_target = Actor(action_dim), Critic(action_dim), Critic(action_dim)
        self.critic_target.load_state_dict(self.critic.state_dict())
        self.actor.encoder.copy_conv_weights_from(self.critic.encoder)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=1e-3)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=1e-3)

    def update_critic(self, obs, action, reward, next_obs):
        with torch.no_grad():
            target_q = reward + 0.99 * self.critic_target(next_obs, self.actor(next_obs))
        critic_loss = F.mse_loss(self.critic(obs, action), target_q)
        self.critic_optimizer.zero_grad()
        critic_loss.backward()
        self.critic_optimizer.step()
        return critic_loss.item()

    def update_actor(self, obs):
        pi = self.actor(obs)
        actor_loss = -self.critic(obs, pi, detach_encoder=True).mean()
        self.actor_optimizer.zero_grad()
        actor_loss.backward()
        self.actor_optimizer.step()
        return actor_loss.item()


if __name__ == "__main__":
    torch.manual_seed(33)
    agent = PixelAgent()
    for _ in range(3):
        obs, nxt = torch.rand(4, 3, 11, 11), torch.rand(4, 3, 11, 11)
        print(agent.update_critic(obs, torch.rand(4, 2), torch.randn(4, 1), nxt), agent.update_actor(obs))

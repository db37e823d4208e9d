import torch
import torch.nn as nn
import torch.nn.functional as F


class CriticNetwork(nn.Module):
    def __init__(self, state_dim, action_dim, fc1=32):
        super().__init__()
        self.fc1 = nn.Linear(state_dim + action_dim, fc1)
        self.q = nn.Linear(fc1, 1)

    def forward(self, state, action):
        return self.q(F.relu(self.fc1(torch.cat([state, action], dim=1))))


class ActorNetwork(nn.Module):
    def __init__(self, state_dim, action_dim, fc1=32):
        super().__init__()
        self.fc1 = nn.Linear(state_dim, fc1)
        self.mu = nn.Linear(fc1, action_dim)

    def forward(self, state):
        return torch.tanh(self.mu(F.relu(self.fc1(state))))


class Agent:
    def __init__(self, state_dim, action_dim, alpha=1e-3, beta=1e-3, tau=0.005, delay=2):
        self.actor, self.target_actor = ActorNetwork(state_dim, action_dim), ActorNetwork(state_dim, action_dim)
        self.critic_1, self.critic_2 = CriticNetwork(state_dim, action_dim), CriticNetwork(state_dim, action_dim)
        self.target_critic_1, self.target_critic_2 = CriticNetwork(state_dim, action_dim), CriticNetwork(state_dim, action_dim)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=alpha)
        self.critic_1_optimizer = torch.optim.Adam(self.critic_1.parameters(), lr=beta)
        self.critic_2_optimizer = torch.optim.Adam(self.critic_2.parameters(), lr=beta)
        self.tau, self.delay, self.learn_step_cntr = tau, delay, 0
        self.update_network_parameters(tau=1.0)

    def learn(self, state, action, reward, state_, done):
        with torch.no_grad():
            noise = (0.2 * torch.randn_like(action)).clamp(-0.5, 0.5)
            target_action = (self.target_actor(state_) + noise).clamp(-1, 1)
            q_ = torch.min(self.target_critic_1(state_, target_action), self.target_critic_2(state_, target_action))
            target = reward + 0.99 * (1 - done) * q_

        self.critic_1_optimizer.zero_grad()
        self.critic_2_optimizer.zero_grad()
        q1_loss = F.mse_loss(self.critic_1(state, action), target)
        q2_loss = F.mse_loss(self.critic_2(state, action), target)
        critic_loss = q1_loss + q2_loss
        critic_loss.backward()
        self.critic_1_optimizer.step()
        self.critic_1_optimizer.step()
        self.learn_step_cntr += 1
        if self.learn_step_cntr % self.delay:
            return critic_loss.item()

        self.actor_optimizer.zero_grad()
        actor_loss = -self.critic_1(state, self.actor(state)).mean()
        actor_loss.backward()
        self.actor_optimizer.step()
        self.update_network_parameters()
        return critic_loss.item()

    @torch.no_grad()
    def update_network_parameters(self, tau=None):
        tau = self.tau if tau is None else tau
        for net, target in ((self.actor, self.target_actor), (self.critic_1, self.target_critic_1), (self.critic_2, self.target_critic_2)):
            for p, tp in zip(net.parameters(), target.parameters()):
                tp.copy_(tau * p + (1 - tau) * tp)


if __name__ == "__main__":
    torch.manual_seed(32)
    agent = Agent(4, 2)
    for _ in range(5):
        print(agent.learn(torch.randn(16, 4), torch.rand(16, 2), torch.randn(16, 1), torch.randn(16, 4), torch.zeros(16, 1)))

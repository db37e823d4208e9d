import torch
import torch.nn.functional as F
from torch import nn


def hard_update(target, source):
    for there, here in zip(target.parameters(), source.parameters()):
        there.data.copy_(here.data)


class Agent:
    def __init__(self, actor, critic, critic_target, optimizer, alpha=1.0):
        self.log_alpha = torch.tensor([alpha], requires_grad=True)
        self.actor, self.critic, self.critic_target = actor, critic, critic_target
        self.actor_optim = optimizer(actor.parameters(), lr=1e-3)
        self.critic_optim = optimizer(critic.parameters(), lr=1e-3)
        self.alpha_optim = optimizer([self.log_alpha], lr=1e-3)
        hard_update(self.critic, self.critic_target)

    @property
    def optimizers(self):
        return [self.actor_optim, self.critic_optim, self.alpha_optim]

    @optimizers.setter
    def optimizers(self, optimizers):
        self.actor_optim, self.critic_optim, self.alpha_optim = optimizers

    def update(self, batch):
        state, action, reward, following = batch
        with torch.no_grad():
            target = reward + 0.99 * self.critic_target(following, self.actor(following))
        value_loss = F.mse_loss(self.critic(state, action), target)
        self.critic.zero_grad()
        value_loss.backward()
        self.critic_optim.step()

        policy_loss = -self.critic(state, self.actor(state)).mean()
        self.actor.zero_grad()
        policy_loss.backward()
        self.actor_optim.step()

        alpha_loss = (self.log_alpha.exp() * self.actor(state).detach()).mean()
        self.alpha_optim.zero_grad()
        alpha_loss.backward()
        self.alpha_optim.step()
        hard_update(self.critic_target, self.critic)

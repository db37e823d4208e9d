import torch
import torch.nn as nn
from torch.distributions import Categorical

torch.manual_seed(1)
num_steps, obs_dim, n_actions = 32, 4, 3
clip_coef, ent_coef, vf_coef, update_epochs, minibatch_size = 0.2, 0.01, 0.5, 2, 8


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.critic = nn.Sequential(nn.Linear(obs_dim, 32), nn.Tanh(), nn.Linear(32, 1))
        self.actor = nn.Sequential(nn.Linear(obs_dim, 32), nn.Tanh(), nn.Linear(32, n_actions))

    def get_value(self, x):
        return self.critic(x).flatten()

    def get_action(self, x, action=None):
        probs = Categorical(logits=self.actor(x))
        action = probs.sample() if action is None else action
        return action, probs.log_prob(action), probs.entropy()


agent = Agent()
optimizer = torch.optim.Adam(agent.parameters(), lr=2.5e-4, eps=1e-5)

for update in range(2):
    obs = torch.randn(num_steps, obs_dim)
    rewards = torch.randn(num_steps)
    with torch.no_grad():
        actions, logprobs, _ = agent.get_action(obs)
        returns = torch.zeros(num_steps)
        nextreturn = agent.get_value(obs[-1:])[0]
        for t in reversed(range(num_steps)):
            nextreturn = rewards[t] + 0.99 * nextreturn
            returns[t] = nextreturn

    for epoch in range(update_epochs):
        for mb in torch.randperm(num_steps).split(minibatch_size):
            _, newlogprob, entropy = agent.get_action(obs[mb], actions[mb])
            newvalue = agent.get_value(obs[mb])
            ratio = (newlogprob - logprobs[mb]).exp()
            mb_advantages = returns[mb] - newvalue
            mb_advantages = (mb_advantages - mb_advantages.mean()) / (mb_advantages.std() + 1e-8)
            pg_loss1 = -mb_advantages * ratio
            pg_loss2 = -mb_advantages * torch.clamp(ratio, 1 - clip_coef, 1 + clip_coef)
            pg_loss = torch.max(pg_loss1, pg_loss2).mean()

            v_loss = 0.5 * ((newvalue - returns[mb]) ** 2).mean()
            loss = pg_loss - ent_coef * entropy.mean() + vf_coef * v_loss
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()
    print(update, v_loss.item(), pg_loss.item())

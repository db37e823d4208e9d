import torch
import torch.nn as nn


class MADDPG:
    def __init__(self, spaces, lr=0.01):
        total = sum(obs + act for obs, act in spaces.values())
        self.actors = {n: nn.Sequential(nn.Linear(obs, 16), nn.ReLU(), nn.Linear(16, act), nn.Tanh()) for n, (obs, act) in spaces.items()}
        self.critics = {n: nn.Sequential(nn.Linear(total, 32), nn.ReLU(), nn.Linear(32, 1)) for n in spaces}
        self.actor_opts = {n: torch.optim.Adam(net.parameters(), lr=lr) for n, net in self.actors.items()}
        self.critic_opts = {n: torch.optim.Adam(net.parameters(), lr=lr) for n, net in self.critics.items()}

    def joint(self, obs, acts):
        return torch.cat([*obs.values(), *acts.values()], dim=1)

    def update_critics(self, sample):
        obs, acts, rews, next_obs = sample
        for name, critic in self.critics.items():
            with torch.no_grad():
                next_acts = {n: pi(next_obs[n]) for n, pi in self.actors.items()}
                target = rews[name] + 0.95 * critic(self.joint(next_obs, next_acts))
            vf_loss = nn.functional.mse_loss(critic(self.joint(obs, acts)), target)
            self.critic_opts[name].zero_grad()
            vf_loss.backward()
            self.critic_opts[name].step()

    def update_actors(self, sample):
        obs = sample[0]
        for opt in self.actor_opts.values():
            opt.zero_grad()
        losses = {}
        for name, critic in self.critics.items():
            all_pol_acs = {n: pi(obs[n]) for n, pi in self.actors.items()}
            pol_loss = -critic(self.joint(obs, all_pol_acs)).mean()
            pol_loss = pol_loss + 1e-3 * all_pol_acs[name].pow(2).mean()
            pol_loss.backward()
            losses[name] = pol_loss.item()
        for name, opt in self.actor_opts.items():
            nn.utils.clip_grad_norm_(self.actors[name].parameters(), 0.5)
            opt.step()
        return losses


def fake_sample(spaces, n=16):
    def draw(i):
        return {k: torch.randn(n, v[i]) for k, v in spaces.items()}
    return draw(0), draw(1), {k: torch.randn(n, 1) for k in spaces}, draw(0)


if __name__ == "__main__":
    torch.manual_seed(8)
    spaces = {"scout": (4, 2), "guard": (6, 2), "medic": (3, 1)}
    algo = MADDPG(spaces)
    for _ in range(3):
        sample = fake_sample(spaces)
        algo.update_critics(sample)
        print(algo.update_actors(sample))

import torch
import torch.nn as nn


class DreamerLite:
    def __init__(self, obs=6, act=2, latent=8, horizon=4, lr=1e-3):
        self.horizon = horizon
        self.nets = nn.ModuleDict({
            "model": nn.ModuleDict({"enc": nn.Linear(obs, latent), "dyn": nn.Linear(latent + act, latent), "dec": nn.Linear(latent, obs), "rew": nn.Linear(latent, 1)}),
            "actor": nn.Sequential(nn.Linear(latent, 16), nn.ELU(), nn.Linear(16, act), nn.Tanh()),
            "value": nn.Sequential(nn.Linear(latent, 16), nn.ELU(), nn.Linear(16, 1)),
        })
        self.optims = {k: torch.optim.Adam(net.parameters(), lr=lr) for k, net in self.nets.items()}

    def model_loss(self, obs, act, rew):
        m = self.nets["model"]
        h = torch.tanh(m["enc"](obs[:, 0]))
        loss, states = 0.0, []
        for t in range(act.shape[1]):
            h = torch.tanh(m["dyn"](torch.cat([h, act[:, t]], 1)))
            loss = loss + (m["dec"](h) - obs[:, t + 1]).pow(2).mean() + (m["rew"](h) - rew[:, t]).pow(2).mean()
            states.append(h)
        return loss, torch.cat(states).detach()

    def imagine(self, state):
        m, feats = self.nets["model"], []
        for _ in range(self.horizon):
            action = self.nets["actor"](state.detach())
            state = torch.tanh(m["dyn"](torch.cat([state, action], 1)))
            feats.append(state)
        return torch.stack(feats)

    def lambda_returns(self, reward, value, gamma=0.99, lam=0.95):
        last, out = value[-1], []
        for t in reversed(range(len(reward) - 1)):
            last = reward[t] + gamma * ((1 - lam) * value[t + 1] + lam * last)
            out.append(last)
        return torch.stack(out[::-1])

    def train(self, obs, act, rew):
        losses = {}
        losses["model"], start = self.model_loss(obs, act, rew)
        self.nets["model"].requires_grad_(False)
        feats = self.imagine(start)
        self.nets["value"].requires_grad_(False)
        returns = self.lambda_returns(self.nets["model"]["rew"](feats), self.nets["value"](feats))
        losses["actor"] = -returns.mean()
        self.nets.requires_grad_(True)
        pred = self.nets["value"](feats[:-1].detach())
        losses["value"] = 0.5 * (pred - returns).pow(2).mean()

        for opt in self.optims.values():
            opt.zero_grad(set_to_none=True)
        sum(losses.values()).backward()
        for name, opt in self.optims.items():
            nn.utils.clip_grad_norm_(self.nets[name].parameters(), 100.0)
            opt.step()
        return {k: v.item() for k, v in losses.items()}


if __name__ == "__main__":
    torch.manual_seed(25)
    agent = DreamerLite()
    for _ in range(3):
        print(agent.train(torch.randn(4, 6, 6), torch.rand(4, 5, 2), torch.randn(4, 5, 1)))

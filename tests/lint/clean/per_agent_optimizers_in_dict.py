import torch
from torch import nn


class Agents:
    def __init__(self, names):
        self.nets = nn.ModuleDict({n: nn.ModuleDict({"pi": nn.Linear(3, 2), "v": nn.Linear(3, 1)}) for n in names})
        self.optims = {n: {k: torch.optim.Adam(m.parameters(), lr=1e-2) for k, m in net.items()} for n, net in self.nets.items()}

    def _each(self, name, method):
        for opt in self.optims[name].values():
            getattr(opt, method)()

    def learn(self, name, obs, act, ret):
        net = self.nets[name]
        v = net["v"](obs).squeeze(1)
        logp = net["pi"](obs).log_softmax(1).gather(1, act).squeeze(1)
        adv = (ret - v).detach()
        loss = -(logp * adv).mean() + (ret - v).pow(2).mean()
        self._each(name, "zero_grad")
        loss.backward()
        self._each(name, "step")
        return loss.item()


torch.manual_seed(23)
agents = Agents(["a", "b"])
for _ in range(2):
    for name in ("a", "b"):
        print(name, agents.learn(name, torch.randn(8, 3), torch.randint(2, (8, 1)), torch.randn(8)))

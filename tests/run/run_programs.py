"""Small training programs, correct and broken."""

from __future__ import annotations

GAN = """
import torch
torch.manual_seed(0)
G, D = torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)
og, od = torch.optim.SGD(G.parameters(), 0.1), torch.optim.SGD(D.parameters(), 0.1)
for number in range(3):
    fake = G(torch.randn(4, 3))
    od.zero_grad()
    d_loss = D(fake.detach()).mean() - D(torch.randn(4, 2)).mean()
    d_loss.backward()
    od.step()
    og.zero_grad()
    g_loss = -D(fake).mean()
    g_loss.backward()
    og.step()
"""
"""A correct pair: the generator's loss passes through the critic, which is cleared."""

LEAK = (
    GAN.replace("fake = G(torch.randn(4, 3))", "fake = G(torch.randn(4, 3)) * 1")
    .replace("g_loss = -D(fake).mean()", "g_loss = -D(G(torch.randn(4, 3))).mean()")
    .replace("D(fake.detach())", "D(fake)")
)
"""The critic's loss reaches the generator, which is cleared before it steps."""

AGENTS = """
import torch
from torch import nn
torch.manual_seed(0)


class Agent:
    def __init__(self):
        self.actor, self.critic = nn.Linear(3, 2), nn.Linear(5, 1)
        self.nets = {"q": self.critic}
        self.opts = [
            torch.optim.Adam(self.actor.parameters()), torch.optim.Adam(self.critic.parameters())
        ]

    @property
    def forbidden(self):
        raise AssertionError("a property was read")

    def __getattr__(self, name):
        raise AssertionError(f"{name} was asked for")

    def update(self, seen):
        acted = self.actor(seen)
        value = self.nets["q"](torch.cat([seen, acted], 1))
        losses = {"policy": -value.mean(), "decay": acted.square().mean()}
        self.loss_q = (value - 1).square().mean()
        total = losses["policy"] + 0.1 * losses["decay"] + self.loss_q
        for opt in self.opts:
            opt.zero_grad()
        total.backward()
        for opt in self.opts:
            opt.step()


agents = [Agent()]
for _ in range(3):
    agents[0].update(torch.randn(4, 3))
"""
"""One joint loss whose terms sit in a dictionary and an attribute."""

FACTS = {
    "an average inside the optimizer": (
        "GG104",
        """
import copy, torch
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
target = copy.deepcopy(net)
opt = torch.optim.SGD([*net.parameters(), *target.parameters()], 0.1)  # here
for _ in range(6):
    x = torch.randn(8, 3)
    loss = (net(x) - target(x + 0.1)).square().mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    with torch.no_grad():
        for slow, fast in zip(target.parameters(), net.parameters()):
            slow.mul_(0.9).add_(0.1 * fast)
""",
    ),
    "a head replaced behind the optimizer's back": (
        "GG203",
        """
import torch
net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
opt = torch.optim.SGD(net.parameters(), 0.1)
net[1] = torch.nn.Linear(4, 3)
for _ in range(3):
    loss = net(torch.randn(8, 3)).square().mean()
    opt.zero_grad()
    loss.backward()  # here
    opt.step()
""",
    ),
    "a part in a plain list": (
        "GG203",
        """
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = [torch.nn.Linear(3, 4), torch.nn.Linear(3, 4)]
        self.last = torch.nn.Linear(4, 1)

    def forward(self, x):
        return self.last(sum(part(x) for part in self.parts))


net = Net()
opt = torch.optim.SGD(net.parameters(), 0.1)
for _ in range(3):
    loss = net(torch.randn(8, 3)).square().mean()
    opt.zero_grad()
    loss.backward()  # here
    opt.step()
""",
    ),
    "a model behind no_grad": (
        "GG301",
        """
import torch
prompts, head = torch.nn.Linear(3, 4), torch.nn.Linear(4, 1)
opt = torch.optim.SGD([*prompts.parameters(), *head.parameters()], 0.1)
for _ in range(3):
    with torch.no_grad():
        seen = prompts(torch.randn(8, 3))
    loss = head(seen).square().mean()
    opt.zero_grad()
    loss.backward()  # here
    opt.step()
""",
    ),
    "an attribute that freezes nothing": (
        "GG401",
        """
import torch
base, head = torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)
for parameter in base.parameters():
    parameter.require_grad = False  # here
opt = torch.optim.SGD([*base.parameters(), *head.parameters()], 0.1)
for _ in range(3):
    loss = head(base(torch.randn(8, 3))).square().mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
""",
    ),
    "a model that moves without gradient": (
        "GG206",
        """
import torch
one, other = torch.nn.Linear(3, 1), torch.nn.Linear(3, 1)
opt = torch.optim.SGD([*one.parameters(), *other.parameters()], 0.1, momentum=0.9)
for number in range(6):
    model = one if number < 3 else other
    loss = model(torch.randn(8, 3)).square().mean()
    opt.zero_grad(set_to_none=False)
    loss.backward()
    opt.step()  # here
""",
    ),
    "an optimizer that never receives anything": (
        "GG203",
        """
import copy, torch
net = torch.nn.Linear(3, 2)
opt = torch.optim.SGD(net.parameters(), 0.1)
net = copy.deepcopy(net)
for _ in range(3):
    loss = net(torch.randn(8, 3)).square().mean()
    opt.zero_grad()
    loss.backward()  # here
    opt.step()
""",
    ),
    "a leaf in two optimizers": (
        "GG202",
        """
import torch
body, one, two = torch.nn.Linear(3, 4), torch.nn.Linear(4, 1), torch.nn.Linear(4, 1)
first = torch.optim.SGD([*body.parameters(), *one.parameters()], 0.1)
second = torch.optim.SGD([*body.parameters(), *two.parameters()], 0.1)  # here
for _ in range(4):
    x = torch.randn(8, 3)
    for head, opt in ((one, first), (two, second)):
        opt.zero_grad()
        loss = head(body(x)).square().mean()
        loss.backward()
        opt.step()
""",
    ),
    "a graph that ends at once": (
        "GG302",
        """
import torch
net = torch.nn.Linear(3, 2)
opt = torch.optim.SGD(net.parameters(), 0.1)
for _ in range(3):
    loss = torch.tensor(net(torch.randn(8, 3)).square().mean().item(), requires_grad=True)
    opt.zero_grad()
    loss.backward()  # here
    opt.step()
""",
    ),
}
"""Programs with a mistake that needs no declaration: the code, and the program with its line."""

STARVING = GAN.replace("g_loss = -D(fake)", "g_loss = -D(fake.detach())")
"""The generator's loss reaches the critic alone."""

MISDIRECTED = {
    "nothing is declared": ([("GG301", "warning", "g_loss", "G")], STARVING, ""),
    "the model is declared": ([("GG301", "error", "g_loss", "G")], STARVING, "g_loss = 'G'"),
    "what it reaches is forbidden": (
        [("GG101", "warning", "g_loss", "D")],
        STARVING,
        "g_loss = { never = ['D'] }",
    ),
    "the wrong optimizers step": (
        [("GG301", "error", "a_loss", "b"), ("GG301", "error", "b_loss", "a")],
        """
import torch
a, b = torch.nn.Linear(3, 2), torch.nn.Linear(3, 1)
a_opt, b_opt = torch.optim.SGD(a.parameters(), 0.1), torch.optim.SGD(b.parameters(), 0.1)
for _ in range(4):
    x = torch.randn(4, 3)
    a_loss = a(x).square().mean()
    a_opt.zero_grad()
    a_loss.backward()
    b_opt.step()
    b_loss = b(x).square().mean()
    b_opt.zero_grad()
    b_loss.backward()
    a_opt.step()
""",
        "",
    ),
}
"""Losses that reach nothing of what steps after them: what is told, the program, and its policy."""

JOINT = """
import os, signal, torch
torch.manual_seed(0)
encoder, head = torch.nn.Linear(3, 4), torch.nn.Linear(4, 1)
encoder_opt = torch.optim.SGD(encoder.parameters(), 0.1)
head_opt = torch.optim.SGD(head.parameters(), 0.1)
for number in range(3):
    loss = head(encoder(torch.randn(8, 3))).square().mean()
    encoder_opt.zero_grad()
    head_opt.zero_grad()
    loss.backward()
    head_opt.step()
    # between the steps
    encoder_opt.step()
"""
"""A correct joint loss, for which two optimizers step."""

ENSEMBLE = """
import torch
torch.manual_seed(0)


def fit(model, opt):
    loss = model(torch.randn(4, 3)).square().mean()
    opt.zero_grad()
    loss.backward()
    opt.step()


head = torch.nn.Linear(3, 2)
head_opt = torch.optim.SGD(head.parameters(), 0.1)
nets = [torch.nn.Linear(3, 2) for _ in range(2)]
opts = [torch.optim.SGD(net.parameters(), 0.1) for net in nets]
for _ in range(3):
    fit(head, head_opt)
    for net, opt in zip(nets, opts):
        fit(net, opt)
"""
"""One helper that fits models of a list and one beside it."""

"""A strategy that draws training programs as source text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

__all__ = ["Program", "programs"]

_PRELUDE = """\
import copy
import itertools
import torch
import torch.nn.functional as F
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.head = nn.Linear(4, 4)

    def forward(self, x):
        return self.head(torch.tanh(self.body(x)))

def apply(net, inp):
    return torch.tanh(net(inp))

@torch.no_grad()
def quiet(net, inp):
    return net(inp)

def freeze(net, on=True):
    for p in net.parameters():
        p.requires_grad = not on

def average(target, source):
    with torch.no_grad():
        for p, q in zip(target.parameters(), source.parameters()):
            p.mul_(0.9).add_(q, alpha=0.1)

def update(opt, loss):
    opt.zero_grad()
    loss.backward(retain_graph=True)
    opt.step()
"""


@dataclass(frozen=True)
class Program:
    """A program and the global expressions that name its leaves."""

    source: str
    handles: tuple[str, ...]


class _Writer:
    def __init__(self, draw: Callable[..., Any]) -> None:
        self.draw = draw
        self.fresh = 0
        self.models: list[str] = []
        self.handles: list[str] = []
        self.optimizers: list[str] = []

    def pick(self, *choices: str) -> str:
        """Draw one of some texts."""
        chosen: str = self.draw(st.sampled_from(choices))
        return chosen

    def name(self, prefix: str) -> str:
        """Return a name that was not used before."""
        self.fresh += 1
        return f"{prefix}{self.fresh}"

    def setup(self, prefix: str) -> list[str]:
        """Build the models, perhaps a target, and the optimizers."""
        lines: list[str] = []
        count = self.draw(st.integers(2, 4))
        home = self.pick("names", "dict", "list", "ModuleDict", "ModuleList")
        built = [self.pick("nn.Linear(4, 4)", "Net()", _SEQUENTIAL) for _ in range(count)]
        keys = "abcd"[:count]
        if home == "names":
            self.models = [f"{prefix}net_{key}" for key in keys]
            lines += [f"{m} = {b}" for m, b in zip(self.models, built, strict=True)]
        else:
            holder = f"{prefix}nets"
            mapping = "ict" in home
            self.models = [
                f"{holder}['{key}']" if mapping else f"{holder}[{number}]"
                for number, key in enumerate(keys)
            ]
            inner = ", ".join(
                f"'{k}': {b}" if mapping else b for k, b in zip(keys, built, strict=True)
            )
            text = f"{{{inner}}}" if mapping else f"[{inner}]"
            lines.append(
                f"{holder} = nn.{home}({text})" if "Module" in home else f"{holder} = {text}"
            )
        for model, kind in zip(self.models, built, strict=True):
            self.handles += _parts(model, kind)
        trained = list(self.models)
        if self.draw(st.booleans()):
            target = f"{prefix}target"
            lines.append(f"{target} = copy.deepcopy({self.models[0]})")
            if self.draw(st.booleans()):
                lines.append(f"{target}.requires_grad_(False)")
            self.handles += _parts(target, built[0])
            self.models.append(target)
        groups = self.draw(st.sampled_from(["each", "pairs", "all"]))
        size = {"each": 1, "pairs": 2, "all": len(trained)}[groups]
        for start in range(0, len(trained), size):
            optimizer = f"{prefix}opt_{start}"
            lines.append(f"{optimizer} = {self.optimizer(trained[start : start + size])}")
            self.optimizers.append(optimizer)
        return lines

    def optimizer(self, models: list[str]) -> str:
        """Return the construction of an optimizer over some models."""
        kind = self.pick("torch.optim.SGD", "torch.optim.Adam")
        if len(models) == 1:
            forms = [f"{models[0]}.parameters()", f"[p for p in {models[0]}.parameters()]"]
        else:
            forms = [
                " + ".join(f"list({m}.parameters())" for m in models),
                "itertools.chain(" + ", ".join(f"{m}.parameters()" for m in models) + ")",
                "[" + ", ".join(f"{{'params': {m}.parameters()}}" for m in models) + "]",
                f"[p for m in ({', '.join(models)}) for p in m.parameters()]",
            ]
        return f"{kind}({self.pick(*forms)}, lr=0.01)"

    def forward(self, values: list[str]) -> list[str]:
        """Return statements that compute one more value, and add its name to ``values``."""
        name, _first = self.name("v"), self.models[0]
        model, one, two = self.pick(*self.models), self.pick(*values), self.pick(*values)
        forms = {
            "call": [f"{name} = {model}({one})"],
            "again": [f"{name} = {model}({one})"],
            "detached in": [f"{name} = {model}({one}.detach())"],
            "detached out": [f"{name} = {model}({one}).detach()"],
            "no_grad": ["with torch.no_grad():", f"    {name} = {model}({one})"],
            "apply": [f"{name} = apply({model}, {one})"],
            "quiet": [f"{name} = quiet({model}, {one})"],
            "join": [f"{name} = {one} + {two}"],
            "product": [f"{name} = torch.cat([{one}, {two}], 1)[:, 2:6] * 0.5"],
            "both": [
                f"{name} = {one}",
                f"for m in ({model}, {self.models[0]}):",
                f"    {name} = m({name})",
            ],
            "lambda": [f"{name} = (lambda inp: {model}(inp))({one})"],
            "dict": [f"d = {{'out': {model}({one})}}", f"{name} = d['out']"],
            "branch": ["if True:", f"    {name} = {model}({one})", "else:", f"    {name} = {two}"],
        }
        values.append(name)
        return forms[self.pick(*forms)]

    def phase(self, values: list[str]) -> list[str]:
        """Return a forward pass, a backward and what comes around it."""
        lines = []
        for _ in range(self.draw(st.integers(1, 4))):
            lines += self.forward(values)
        final, model = values[-1], self.pick(*self.models)
        optimizer = self.pick(*self.optimizers)
        loss = self.name("loss")
        lines.append(
            self.pick(
                f"{loss} = {model}({final}).pow(2).mean()",
                f"{loss} = {final}.pow(2).mean()",
                f"{loss} = F.mse_loss({model}({final}), {self.pick(*values)})",
                f"{loss} = -{model}({final}).mean() + 0.5 * {final}.pow(2).sum()",
            )
        )
        toggled = self.pick("no", "no", "no", "frozen", "helper")
        if toggled == "frozen":
            lines.append(f"{model}.requires_grad_(False)")
        elif toggled == "helper":
            lines.append(f"freeze({model})")
        if self.draw(st.integers(0, 4)) == 0:
            lines.append(f"update({optimizer}, {loss})")
        else:
            lines += self.clear(optimizer, model)
            lines.append(
                self.pick(
                    f"{loss}.backward(retain_graph=True)",
                    f"{loss}.backward(retain_graph=True)",
                    f"torch.autograd.backward([{loss}], retain_graph=True)",
                    f"(2 * {loss}).backward(retain_graph=True)",
                    f"{loss}.backward(retain_graph=True, inputs=list({model}.parameters()))",
                )
            )
            if self.draw(st.integers(0, 3)):
                lines.append(f"{optimizer}.step()")
        if toggled != "no" and self.draw(st.booleans()):
            lines.append(
                f"{model}.requires_grad_(True)"
                if toggled == "frozen"
                else f"freeze({model}, False)"
            )
        if self.models[-1].endswith("target") and self.draw(st.booleans()):
            lines.append(f"average({self.models[-1]}, {self.models[0]})")
        return lines

    def clear(self, optimizer: str, model: str) -> list[str]:
        """Return statements that remove gradients, or none."""
        form = self.pick("optimizer", "optimizer", "zeros", "model", "hand", "none", "each")
        return {
            "optimizer": [f"{optimizer}.zero_grad()"],
            "zeros": [f"{optimizer}.zero_grad(set_to_none=False)"],
            "model": [f"{model}.zero_grad()"],
            "hand": [f"for p in {model}.parameters():", "    p.grad = None"],
            "none": [],
            "each": [f"for o in ({', '.join(self.optimizers)},):", "    o.zero_grad()"],
        }[form]


_SEQUENTIAL = "nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))"


def _parts(model: str, kind: str) -> list[str]:
    # The layers of a plain sequence only ever come together: to the linter they are one.
    return [f"{model}.body", f"{model}.head"] if kind == "Net()" else [model]


def _indented(lines: list[str], by: int = 1) -> list[str]:
    return ["    " * by + line for line in lines]


@st.composite
def programs(draw: Callable[..., Any]) -> Program:
    """Draw a program in which losses train models through optimizers."""
    writer = _Writer(draw)
    style = writer.pick("flat", "function", "trainer")
    loop = writer.pick("for i in range(2):", "for x in [x, x + 1.0]:", "once")
    setup = writer.setup("self." if style == "trainer" else "")
    values = ["x"]
    body = [line for _ in range(draw(st.integers(1, 3))) for line in writer.phase(values)]
    looped = body if loop == "once" else [loop, *_indented(body)]
    draws = "x = torch.randn(2, 4)"
    if style == "flat":
        lines = [*setup, draws, *looped]
    elif style == "function":
        lines = [*setup, "def train(x):", *_indented(looped), draws, "train(x)"]
    else:
        lines = ["class Trainer:", "    def __init__(self):", *_indented(setup, 2)]
        lines += ["    def train(self, x):", *_indented(looped, 2)]
        lines += ["trainer = Trainer()", "trainer.train(torch.randn(2, 4))"]
    handles = tuple(handle.replace("self.", "trainer.") for handle in writer.handles)
    return Program(_PRELUDE + "\n".join(lines) + "\n", handles)

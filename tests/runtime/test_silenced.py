"""A comment in the source silences a finding live, whatever the guard does with findings."""

from __future__ import annotations

import warnings
from typing import Literal

import pytest
import torch
from torch import nn

import gradguard

Mode = Literal["raise", "warn", "record"]


class Nets:
    """A critic whose loss leaks into the generator, on two lines."""

    def __init__(self) -> None:
        """Build both."""
        self.generator, self.critic = nn.Linear(3, 2), nn.Linear(2, 1)

    def guard(self, mode: Mode) -> gradguard.Guard:
        """Make the guard that both lines break."""
        models = {"generator": self.generator, "critic": self.critic}
        return gradguard.Guard(models, {"critic_loss": "critic"}, on_violation=mode)

    def silenced(self) -> None:
        """Leak where a comment allows it."""
        fake = self.generator(torch.ones(4, 3))
        critic_loss = self.critic(fake).mean()  # gradguard: ignore[GG101] on purpose
        critic_loss.backward()

    def told(self) -> None:
        """Leak where a comment is about something else."""
        fake = self.generator(torch.ones(4, 3))
        critic_loss = self.critic(fake).mean()  # gradguard: ignore[GG301] of no use
        critic_loss.backward()


@pytest.mark.parametrize("mode", ["raise", "warn", "record"])
def test_a_silenced_leak_is_let_through_by_every_guard(mode: Mode) -> None:
    """Nothing is raised, warned of or reported, and the gradient arrives as without a guard."""
    nets = Nets()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with nets.guard(mode) as guard:
            nets.silenced()
            nets.silenced()
    assert guard.findings == []
    assert nets.generator.weight.grad is not None
    with gradguard.only(nets.critic):
        nets.silenced()


def test_a_comment_for_another_code_silences_nothing() -> None:
    """Also beside one that does: each leak is judged at its own line."""
    nets = Nets()
    with nets.guard("record") as guard:
        nets.told()
    assert [finding.code for finding in guard.findings] == ["GG101"]
    with pytest.raises(gradguard.IsolationError), nets.guard("raise"):
        nets.told()
    with pytest.raises(gradguard.IsolationError), gradguard.only(nets.critic):
        nets.told()

"""Training loops that a framework runs: what it does between a module's methods is known."""

from __future__ import annotations

import time
from pathlib import Path
from textwrap import dedent

import pytest

from gradguard.config import Config
from gradguard.core.findings import Confidence, Severity
from gradguard.lint.engine import analyse
from gradguard.lint.project import Project

SELF_SUPERVISED = """
    from copy import deepcopy

    import torch
    import torch.nn.functional as F
    from lightning.pytorch import LightningModule
    from torch import nn


    class Distilled(LightningModule):
        def __init__(self):
            super().__init__()
            self.online = nn.Linear(8, 8)
            self.target = deepcopy(self.online)
            self.head = nn.Linear(8, 8)

        def training_step(self, batch, batch_idx):
            one, two = batch
            {guard}
                aim = self.target(two)
            loss = F.mse_loss(self.head(self.online(one)), aim)
            return {{"loss": loss}}

        def on_train_batch_end(self, outputs, batch, batch_idx):
            for mine, other in zip(self.target.parameters(), self.online.parameters()):
                mine.data.mul_(0.99).add_(other.data, alpha=0.01)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1), []
"""

ADVERSARIAL = """
    import torch
    from pytorch_lightning import LightningModule
    from torch import nn


    class Adversarial(LightningModule):
        def __init__(self):
            super().__init__()
            {flag}
            self.generator = nn.Linear(4, 2)
            self.critic = nn.Linear(2, 1)

        def training_step(self, batch, batch_idx, optimizer_idx):
            fake = self.generator(torch.randn(8, 4))
            if optimizer_idx == 0:
                return -self.critic(fake).mean()
            critic_loss = self.critic(fake).mean() - self.critic(batch).mean()
            return critic_loss

        def configure_optimizers(self):
            one = torch.optim.Adam(self.generator.parameters(), lr=1e-3)
            two = torch.optim.Adam(self.critic.parameters(), lr=1e-3)
            return [one, two], []
"""


def found(folder: Path, text: str) -> list[tuple[str, str]]:
    """Return code and model of what a user would see of a program by default."""
    path = folder / "module.py"
    path.write_text(dedent(text), "utf-8")
    analysis = analyse(path, Project([folder]), Config(root=folder), time.thread_time() + 30)
    return [
        (finding.code, finding.model or "")
        for finding in analysis.findings
        if finding.severity is not Severity.INFO and finding.confidence.reaches(Confidence.MEDIUM)
    ]


@pytest.mark.parametrize(
    ("guard", "expected"),
    [("if True:", [("GG104", "self.target")]), ("with torch.no_grad():", [])],
)
def test_the_loss_that_a_step_returns_runs_backward(
    tmp_path: Path, guard: str, expected: list[tuple[str, str]]
) -> None:
    """Lightning clears, runs backward and steps: an average in the optimizer must be held fixed."""
    assert found(tmp_path, SELF_SUPERVISED.format(guard=guard)) == expected


def test_the_parameters_of_the_other_optimizers_are_frozen_in_each_turn(tmp_path: Path) -> None:
    """With several optimizers Lightning toggles: a live fake in the critic's turn does no harm."""
    assert found(tmp_path, ADVERSARIAL.format(flag="self.critic_turns = 1")) == []


def test_a_module_that_optimizes_by_hand_is_not_trained_by_the_framework(tmp_path: Path) -> None:
    """Where automatic optimization is off, what a step returns runs nowhere."""
    assert found(tmp_path, ADVERSARIAL.format(flag="self.automatic_optimization = False")) == []

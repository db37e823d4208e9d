"""What the tests of the plugin have in common: the project of a user, and how it is tested."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

# What is first loaded by a run in this process is forgotten with it: torch bears that badly, and
# the plugin of Hypothesis would load it anew for each failure.
import hypothesis  # noqa: F401
import pytest
import torch._dynamo  # noqa: F401  The first step of an optimizer loads it.

import gradguard._pytest.failures
import gradguard._pytest.guards
import gradguard._pytest.marks
import gradguard._pytest.watching
import gradguard.runtime.observe.story  # noqa: F401

INSTALLED = any(
    entry.value == "gradguard.pytest_plugin"
    for entry in importlib.metadata.entry_points(group="pytest11")
)
PLUGIN = () if INSTALLED else ("-p", "gradguard.pytest_plugin")
QUIET = ("-p", "no:cacheprovider", "-p", "no:randomly")

CONFTEST = """
import pytest
import torch


class Nets:
    def __init__(self, width=2):
        self.critic = torch.nn.Linear(width, 1)
        self.generator = torch.nn.Linear(3, width)

    def models(self):
        return {"critic": self.critic, "generator": self.generator}

    def train(self, *, leak):
        fake = self.generator(torch.ones(4, 3))
        critic_loss = self.critic(fake if leak else fake.detach()).mean()
        critic_loss.backward()


class Pair(Nets):
    def __init__(self):
        super().__init__()
        self.critic_opt = torch.optim.SGD(self.critic.parameters(), 0.1)
        self.generator_opt = torch.optim.SGD(self.generator.parameters(), 0.1)

    def step(self, *, leak):
        self.critic_opt.zero_grad()
        self.train(leak=leak)
        self.critic_opt.step()
        self.generator_opt.zero_grad()
        generator_loss = -self.critic(self.generator(torch.ones(4, 3))).mean()
        generator_loss.backward()
        self.generator_opt.step()


@pytest.fixture
def nets():
    return Nets()


@pytest.fixture
def pair():
    return Pair()


@pytest.fixture(params=[2, 5])
def wide(request):
    return Nets(request.param)
"""

POLICY = 'POLICY = {"critic_loss": "critic"}\n'
PATHS = 'PATHS = {"critic": "nets.critic", "generator": "nets.generator"}\n'


class Project:
    """The tests of a user, with models that may leak.

    Args:
        pytester: Where they are written and run.
    """

    def __init__(self, pytester: pytest.Pytester) -> None:
        self._pytester = pytester
        pytester.makeconftest(CONFTEST)

    @property
    def path(self) -> Path:
        """Where the project lies."""
        return self._pytester.path

    def write(self, test: str, name: str = "test_nets") -> None:
        """Write a file of tests that know policy and paths of the models."""
        head = f"import pytest\nimport torch\n{POLICY}{PATHS}\n"
        self._pytester.makepyfile(**{name: head + test})

    def configure(self, ini: str) -> None:
        """Write the settings of pytest."""
        self._pytester.makeini(f"[pytest]\n{ini}\n")

    def run(self, *args: str) -> pytest.RunResult:
        """Run the tests in this process."""
        return self._pytester.runpytest_inprocess(*PLUGIN, *QUIET, *args)

    def run_apart(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Run the tests in a process of their own, as a user does."""
        return subprocess.run(
            [sys.executable, "-m", "pytest", *PLUGIN, *QUIET, *args],
            capture_output=True,
            encoding="utf-8",
            cwd=self.path,
            check=False,
        )

"""Programs to lint, and the command line run on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import gradguard
from gradguard import cli

ROOT = Path(gradguard.__file__).parent.parent

LEAK = """\
import torch

generator, critic = torch.nn.Linear(4, 2), torch.nn.Linear(2, 1)
generator_opt = torch.optim.RMSprop(generator.parameters(), lr=1e-3)
critic_opt = torch.optim.RMSprop(critic.parameters(), lr=1e-3)
for _ in range(3):
    fake = generator(torch.randn(8, 4))
    critic_loss = critic(fake).mean() - critic(torch.randn(8, 2)).mean()
    critic_opt.zero_grad()
    critic_loss.backward()
    critic_opt.step()

    generator_loss = -critic(generator(torch.randn(8, 4))).mean()
    generator_opt.zero_grad()
    generator_loss.backward()
    generator_opt.step()
"""
"""A critic's loss that reaches the generator on row 8, column 19."""

CLEAN = LEAK.replace("critic(fake)", "critic(fake.detach())")
LEAK_ROW = 8


def with_comment(comment: str) -> str:
    """Return the program with a leak and a comment behind the line of the leak."""
    lines = LEAK.splitlines()
    lines[LEAK_ROW - 1] += f"  {comment}"
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Done:
    """How a command ended and what it said."""

    status: int
    said: str
    complained: str

    @property
    def findings(self) -> list[dict[str, Any]]:
        """What was written as JSON."""
        found: list[dict[str, Any]] = json.loads(self.said)
        return found

    @property
    def places(self) -> list[tuple[str, str, int]]:
        """Code, file and row of each finding that was written as JSON."""
        return [
            (one["code"], Path(one["filename"]).name, one["location"]["row"])
            for one in self.findings
        ]


class Linter:
    """Runs ``gradguard lint`` in a folder."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Run in ``folder``, which is the working folder."""
        self.folder = folder
        self._capsys = capsys

    def write(self, **contents: str) -> None:
        """Write Python files by name."""
        for name, content in contents.items():
            (self.folder / f"{name}.py").write_text(content, encoding="utf-8")

    def settings(self, table: str) -> None:
        """Write settings."""
        path = self.folder / "pyproject.toml"
        path.write_text(f"[tool.gradguard]\n{table}\n", encoding="utf-8")

    def __call__(self, *arguments: str) -> Done:
        """Run the command in this process."""
        self._capsys.readouterr()
        status = cli.main(["lint", *arguments])
        said, complained = self._capsys.readouterr()
        return Done(status, said, complained)

    def json(self, *arguments: str) -> Done:
        """Run the command in this process, for programs to read."""
        return self("--output-format", "json", *arguments)

    def process(self, *arguments: str, stdin: bytes | None = None) -> Done:
        """Run the command as its users do."""
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "gradguard", "lint", *arguments],
            capture_output=True,
            cwd=self.folder,
            env=environment(),
            input=stdin,
            check=False,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def environment() -> dict[str, str]:
    """Return an environment that finds gradguard from any folder."""
    kept = {key: value for key, value in os.environ.items() if key != "FORCE_COLOR"}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return kept | {"PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"}

"""Programs run in processes of their own: with and without observation."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOTES = "gradguard: "


@dataclass(frozen=True)
class Ended:
    """How a process ended: what it wrote, notes of ours aside, and its status."""

    out: str
    err: str
    status: int

    @property
    def findings(self) -> list[dict[str, Any]]:
        """The findings that were written as JSON behind what the program wrote."""
        start = self.out.rindex("\n[") + 1 if "\n[" in self.out else self.out.index("[")
        return json.loads(self.out[start:])  # type: ignore[no-any-return]


def ended(folder: Path, *command: str) -> Ended:
    """Run a command in a folder until it ends."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="backslashreplace",
        check=False,
        timeout=120,
    )
    err = "".join(line for line in done.stderr.splitlines(True) if not line.startswith(NOTES))
    return Ended(done.stdout, err, done.returncode)


def plain(folder: Path, *command: str) -> Ended:
    """Run a program by the interpreter alone."""
    return ended(folder, *command)


def observed(folder: Path, *command: str) -> Ended:
    """Run a program under observation."""
    return ended(folder, "-m", "gradguard", "run", *command)


def judged(folder: Path, text: str, *options: str) -> Ended:
    """Run a program that is given as text under observation, its findings written as JSON."""
    (folder / "train.py").write_text(text)
    return observed(folder, "--output-format", "json", *options, "train.py")

"""``gradguard run``: real programs in real processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LEAK = """
import sys, torch
torch.manual_seed(0)
G, D = torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)
og, od = torch.optim.SGD(G.parameters(), 0.1), torch.optim.SGD(D.parameters(), 0.1)
for _ in range(3):
    fake = G(torch.randn(4, 3))
    od.zero_grad()
    d_loss = D(fake).mean()
    d_loss.backward()
    od.step()
    og.zero_grad()
    g_loss = -D(G(torch.randn(4, 3))).mean()
    g_loss.backward()
    og.step()
sys.exit(int(sys.argv[1]))
"""


def run(folder: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program under observation."""
    (folder / "train.py").write_text(text)
    command = [sys.executable, "-m", "gradguard", "run", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_live_fake_is_found_with_nothing_declared(tmp_path: Path) -> None:
    """The loss, the model and the line are named as the program writes them."""
    done = run(tmp_path, LEAK, "--output-format", "json", "--fail-on", "warning", "train.py", "0")
    assert done.returncode == 1, done.stderr
    [found] = json.loads(done.stdout)
    assert (found["code"], found["loss"], found["model"]) == ("GG101", "d_loss", "G")
    assert found["location"]["row"] == 9


def test_the_exit_status_of_a_program_that_fails_is_its_own(tmp_path: Path) -> None:
    """Findings do not hide that the program failed."""
    assert run(tmp_path, LEAK, "train.py", "7").returncode == 7


def test_an_error_of_the_program_is_shown_without_our_frames(tmp_path: Path) -> None:
    """The traceback is the one that Python itself would print."""
    done = run(tmp_path, "def f():\n    raise ValueError('no')\nf()\n", "train.py")
    assert done.returncode == 1
    assert "ValueError: no" in done.stderr
    assert "gradguard/" not in done.stderr

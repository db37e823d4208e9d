"""The page about reports: its example runs, and its table has every sign."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from gradguard.core.flow import Sign

PAGE = (Path(__file__).parents[2] / "docs" / "reports.md").read_text("utf-8")


def test_the_example_runs(tmp_path: Path) -> None:
    """A reader who copies it gets a page."""
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    script = tmp_path / "example.py"
    script.write_text(f"{code}print(page[:15])\n", "utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "<!doctype html>\n", "")


def test_every_sign_is_explained() -> None:
    """With its twin in ASCII."""
    rows = re.findall(r"^\| (\S) \| (\S) \|", PAGE, re.MULTILINE)
    assert sorted(rows) == sorted((sign.mark, sign.ascii) for sign in Sign)

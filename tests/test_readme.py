"""The README's words are true: its examples run and print what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(
    r"```python\n(.*?)```(?:\n\n```\n(.*?)```)?", README.read_text("utf-8"), re.DOTALL
)


@pytest.mark.parametrize(("code", "printed"), BLOCKS)
def test_each_example_of_the_readme_runs_and_prints_what_it_says(
    code: str, printed: str, tmp_path: Path
) -> None:
    """A reader who copies a block gets what the README shows below it."""
    script = tmp_path / "example.py"
    script.write_text(code, "utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        capture_output=True,
        encoding="utf-8",
        env={"PYTHONIOENCODING": "utf-8", "PYTHONPATH": ":".join(filter(None, sys.path))},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not printed or done.stdout == printed

"""What the tests of the linter share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from command_support import Linter


@pytest.fixture
def linter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Linter:
    """Return the command, run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Linter(tmp_path, capsys)

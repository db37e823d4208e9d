from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gradguard.reference import CheckpointError
from gradguard.reference.checkpoint import load, save

CRASHING = """
import os, pathlib, sys
from gradguard.reference.checkpoint import save

class PowerCut:
    def __reduce__(self):
        os._exit(9)

save(pathlib.Path(sys.argv[1]), {"weights": __import__("torch").ones(100_000), "end": PowerCut()})
"""


class Unwritable:
    """Fails while it is being written."""

    def __reduce__(self) -> Any:
        raise OSError("no space left on device")


class Harmful:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    """Property: what is loaded is what was saved."""
    save(tmp_path / "c.pt", {"step": 3, "weights": torch.arange(5.0)})
    state = load(tmp_path / "c.pt")
    assert state["step"] == 3
    assert torch.equal(state["weights"], torch.arange(5.0))


def test_a_crash_while_writing_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    """Property: a process that dies in the middle of a write has not touched the old file."""
    file = tmp_path / "checkpoint.pt"
    save(file, {"step": 1})
    before = file.read_bytes()
    died = subprocess.run([sys.executable, "-c", CRASHING, str(file)], check=False)
    assert died.returncode == 9
    assert file.read_bytes() == before
    save(file, {"step": 2})
    assert load(file) == {"step": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_failed_write_leaves_the_old_checkpoint_and_nothing_else(tmp_path: Path) -> None:
    """Property: an error while writing is passed on, and the folder is as it was."""
    file = tmp_path / "checkpoint.pt"
    save(file, {"step": 1})
    with pytest.raises(OSError, match="no space left"):
        save(file, {"weights": torch.ones(100_000), "end": Unwritable()})
    assert load(file) == {"step": 1}
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    "content",
    [b"", b"not a checkpoint", pickle.dumps({"format": 1}, 2)],
    ids=["empty", "text", "a bare pickle"],
)
def test_a_file_that_is_no_checkpoint_is_named(content: bytes, tmp_path: Path) -> None:
    """Property: whatever lies there, the error names the file."""
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt cannot be read as a checkpoint"):
        load(file)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    """Property: a file from elsewhere can do no harm; what is no plain value is refused."""
    file = tmp_path / "checkpoint.pt"
    torch.save({"format": 1, "step": Harmful(tmp_path / "harm")}, file)
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load(file)
    assert not (tmp_path / "harm").exists()


def test_a_truncated_checkpoint_is_named(tmp_path: Path) -> None:
    """Property: half a file, as a copy may leave it, is no checkpoint."""
    file = tmp_path / "checkpoint.pt"
    save(file, {"weights": torch.ones(1000)})
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load(file)


def test_another_programs_checkpoint_is_refused(tmp_path: Path) -> None:
    """Property: a well-formed file that this loop did not write is not taken for a run."""
    file = tmp_path / "model.pt"
    torch.save({"state_dict": {}}, file)
    with pytest.raises(CheckpointError, match="is no checkpoint of this loop"):
        load(file)

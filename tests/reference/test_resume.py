from __future__ import annotations

import copy
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from reference_support import call, in_words, outcome, same_bits, small, start
from torch import nn

from gradguard.reference import CheckpointError, Pair, Settings, SettingsError, Trainer, run
from gradguard.reference.checkpoint import load, save

VARIANTS: list[dict[str, Any]] = [
    {},
    {"constraint": "clip", "n_critic": 3},
    {"amp": "bfloat16"},
    {"amp": "float16"},
    {"reuse_fake": False, "decay": False},
]


def stochastic_pair(settings: Settings) -> Pair:
    """Build a pair with buffers, and with noise of its own from the global random state."""
    return Pair(
        critic=nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.3), nn.Linear(8, 1)),
        generator=nn.Sequential(
            nn.Linear(settings.latent, 8), nn.BatchNorm1d(8), nn.Dropout(0.1), nn.Linear(8, 2)
        ),
    )


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a process has written a file."""
    while not file.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)


@pytest.mark.parametrize("variant", VARIANTS, ids=in_words)
@given(cut=st.integers(1, 5))
@settings(max_examples=3, deadline=None)
def test_a_run_resumed_after_any_step_ends_as_the_uninterrupted_one(
    variant: dict[str, Any], cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Property: stopping, saving, loading elsewhere and going on changes no bit of the outcome."""
    file = tmp_path_factory.mktemp("resume") / "checkpoint.pt"
    whole = Trainer(small(**variant))
    whole.train()

    first = Trainer(small(**variant))
    first.train(until=cut)
    save(file, first.state_dict())
    torch.manual_seed(12345)
    second = Trainer(small(**variant))
    second.load_state_dict(load(file))
    second.train()

    assert second.step == whole.step == 6
    assert same_bits(outcome(second), outcome(whole))


def test_buffers_and_the_global_random_state_are_resumed_too() -> None:
    """Property: batch statistics and dropout masks go on where they were."""
    whole = Trainer(small(), make_pair=stochastic_pair)
    whole.train()

    first = Trainer(small(), make_pair=stochastic_pair)
    first.train(until=3)
    state = copy.deepcopy(first.state_dict())
    torch.rand(7)
    second = Trainer(small(), make_pair=stochastic_pair)
    second.load_state_dict(state)
    second.train()

    assert same_bits(outcome(second), outcome(whole))


def test_a_killed_process_resumes_to_the_same_end(tmp_path: Path) -> None:
    """Property: after SIGKILL at any moment, ``--resume`` ends in the uninterrupted checkpoint."""
    arguments = ("--steps", "200", "--batch", "4", "--width", "4", "--checkpoint-every", "20")
    killed = start(*arguments, "--out", tmp_path / "killed", "--no-picture")
    saved = tmp_path / "killed" / "checkpoint.pt"
    wait_for(saved, killed)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    reached = load(saved)["step"]
    assert 20 <= reached < 200

    for folder, more in (("killed", ["--resume"]), ("whole", [])):
        status, _, errors = call(*arguments, "--out", tmp_path / folder, "--no-picture", *more)
        assert status == 0, errors

    assert same_bits(load(saved), load(tmp_path / "whole" / "checkpoint.pt"))


def test_an_interrupted_command_says_how_to_go_on(tmp_path: Path) -> None:
    """Property: Ctrl-C ends in one line and status 130, with the last checkpoint in place."""
    process = start("--checkpoint-every", "1", "--width", "4", "--out", tmp_path, "--no-picture")
    wait_for(tmp_path / "checkpoint.pt", process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert errors.endswith("interrupted; --resume goes on from the last checkpoint\n")
    assert "Traceback" not in errors
    assert load(tmp_path / "checkpoint.pt")["step"] >= 1


def test_a_finished_run_resumes_to_itself(tmp_path: Path) -> None:
    """Property: resuming what is complete trains no further and reports the same quality."""
    first = run(small(), tmp_path, draw=False)
    again = run(small(), tmp_path, resume=True, draw=False)
    assert again.quality == first.quality
    assert again.losses == first.losses
    assert len(again.losses["critic_loss"]) == 6


def test_resuming_under_other_settings_is_refused_by_name(tmp_path: Path) -> None:
    """Property: a setting that shapes the run cannot change half-way, and is named."""
    run(small(), tmp_path, draw=False)
    with pytest.raises(SettingsError, match=r"another run: n_critic was 2, is 3$"):
        run(small(n_critic=3), tmp_path, resume=True, draw=False)


def test_resuming_with_other_intervals_or_without_the_guard_is_the_same_run(
    tmp_path: Path,
) -> None:
    """Property: how often a run logs or saves, and whether it is watched, is no part of it."""
    run(small(), tmp_path, draw=False)
    again = run(
        small(log_every=1, checkpoint_every=2, guard=False), tmp_path, resume=True, draw=False
    )
    assert len(again.losses["generator_loss"]) == 6


def test_a_folder_with_a_run_is_not_overwritten_unasked(tmp_path: Path) -> None:
    """Property: starting anew over a checkpoint is an error unless ``overwrite`` is given."""
    run(small(), tmp_path, draw=False)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(SettingsError, match="holds a run already"):
        run(small(seed=1), tmp_path, draw=False)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    run(small(seed=1), tmp_path, overwrite=True, draw=False)
    assert load(tmp_path / "checkpoint.pt")["settings"]["seed"] == 1


def test_resuming_nothing_is_an_error(tmp_path: Path) -> None:
    """Property: a mistyped folder does not silently start a new run."""
    with pytest.raises(CheckpointError, match="there is no checkpoint at"):
        run(small(), tmp_path, resume=True, draw=False)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from reference_support import call

from gradguard.reference import Settings, SettingsError, Trainer
from gradguard.reference.__main__ import main

BAD: list[tuple[dict[str, Any], str]] = [
    ({"device": "tpu"}, "device must be one of cpu, cuda, got 'tpu'"),
    ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
    ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
    ({"batch": 2.5}, "batch must be a whole number of at least 1, got 2.5"),
    ({"n_critic": True}, "n_critic must be a whole number of at least 1, got True"),
    ({"critic_lr": float("nan")}, "critic_lr must be a number above 0, got nan"),
    ({"generator_lr": 0.0}, "generator_lr must be a number above 0, got 0.0"),
    ({"smoothing": 1.0}, "smoothing must be a number from 0 up to, not including, 1, got 1.0"),
    ({"penalty": float("inf")}, "penalty must be a number above 0, got inf"),
    ({"clip": "0.1"}, "clip must be a number above 0, got '0.1'"),
    ({"constraint": "none"}, "constraint must be one of penalty, clip, got 'none'"),
    ({"amp": "float8"}, "amp must be one of off, bfloat16, float16, got 'float8'"),
    ({"guard": 1}, "guard must be true or false, got 1"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=str)
def test_a_setting_out_of_range_is_refused_in_words(changes: dict[str, Any], message: str) -> None:
    """Property: the message names the setting, what it must be, and what it was."""
    with pytest.raises(SettingsError) as caught:
        Settings(**changes)
    assert str(caught.value) == message


def test_all_bad_settings_are_named_at_once() -> None:
    """Property: two mistakes need one correction, not two."""
    with pytest.raises(SettingsError) as caught:
        Settings(steps=0, amp="int8")
    assert "steps must be" in str(caught.value)
    assert "; amp must be" in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n-critic", "0"], "error: n_critic must be a whole number of at least 1, got 0"),
        (["--critic-lr", "nan"], "error: critic_lr must be a number above 0, got nan"),
        (["--steps", "many"], "error: Invalid value for '--steps': 'many' is not a valid integer."),
        (["--resume"], "error: there is no checkpoint at "),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_a_bad_command_line_ends_in_one_line_and_status_2(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    """Property: a mistake gives one line on standard error, no traceback, and exit status 2."""
    status, output, errors = call(*arguments, "--out", tmp_path / "run")
    assert status == 2
    assert output == ""
    assert errors.startswith(message)
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume", "--overwrite"], "resume and overwrite exclude each other"),
        (["--bogus"], "No such option '--bogus'"),
        (["--out", "{here}/file/below"], "cannot make the folder {here}/file/below"),
        (["--out", "{here}/file"], "Directory '{here}/file' is a file."),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_every_mistake_has_its_message(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Property: as above, for mistakes that need no process of their own."""
    (tmp_path / "file").touch()
    given = [part.format(here=tmp_path) for part in arguments]
    monkeypatch.setattr("sys.argv", ["reference", *given])
    assert main() == 2
    errors = capsys.readouterr().err
    assert message.format(here=tmp_path) in errors
    assert errors.count("\n") == 1


def test_a_missing_device_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Property: ``--device cuda`` without one is a bad setting like any other."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["reference", "--device", "cuda", "--out", str(tmp_path)])
    assert main() == 2
    assert capsys.readouterr().err == (
        "error: device is cuda, but PyTorch finds no CUDA device here; use cpu\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_training_leaves_the_process_as_it_was() -> None:
    """Property: threads and matrix precision are the caller's again, even after an error."""
    threads = torch.get_num_threads()
    precision = torch.get_float32_matmul_precision()
    torch.set_num_threads(2)
    try:
        trainer = Trainer(Settings(steps=1, threads=1))
        with pytest.raises(ZeroDivisionError):
            trainer.train(after_step=lambda: 1 // 0)
        assert torch.get_num_threads() == 2
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_num_threads(threads)

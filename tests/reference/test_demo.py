from __future__ import annotations

from pathlib import Path

import pytest
from reference_support import call

import gradguard
from gradguard.reference import demo_run, picture
from gradguard.reference.checkpoint import load


def is_picture(path: Path) -> bool:
    """Whether a file begins as a PNG and holds more than a blank one."""
    content = path.read_bytes()
    return content.startswith(b"\x89PNG\r\n\x1a\n") and len(content) > 10_000


def test_the_demonstration_trains_saves_and_draws(tmp_path: Path) -> None:
    """Property: a clean demonstration has no findings, a flow, a checkpoint and a picture."""
    reports: list[tuple[int, int]] = []
    result = demo_run(
        tmp_path, steps=60, report=lambda done, total, _losses: reports.append((done, total))
    )
    assert result.findings == ()
    assert result.flow is not None
    assert result.picture is not None
    assert is_picture(result.picture)
    assert load(result.checkpoint)["step"] == 60
    assert [len(values) for values in result.losses.values()] == [60, 60]
    assert reports == [(50, 60), (60, 60)]
    assert result.seconds > 0


def test_the_demonstration_can_be_given_again(tmp_path: Path) -> None:
    """Property: what an earlier demonstration left is replaced, and the outcome is the same."""
    first, second = (demo_run(tmp_path, steps=5) for _ in range(2))
    assert first.losses == second.losses
    assert first.quality == second.quality


def test_a_leak_planted_in_the_demonstration_is_found(tmp_path: Path) -> None:
    """Property: recorded, the leak is one finding, counted, and shown in the flow."""
    result = demo_run(tmp_path, plant_leak=True)
    (finding,) = result.findings
    assert finding.code == "GG101"
    assert finding.count == 2 * result.settings.steps
    assert result.flow is not None
    assert result.flow["critic_loss", "generator"] is gradguard.Reach.REACHED


def test_a_leak_planted_in_the_demonstration_can_be_raised(tmp_path: Path) -> None:
    """Property: with ``on_violation="raise"`` the demonstration ends in the error."""
    with pytest.raises(gradguard.IsolationError):
        demo_run(tmp_path, plant_leak=True, on_violation="raise")


def test_the_command_trains_and_tells(tmp_path: Path) -> None:
    """Property: exit status 0, quality and files on standard output, the bar on standard error."""
    status, output, errors = call("--steps", "60", "--width", "8", "--out", tmp_path)
    assert status == 0, errors
    assert "of 8 modes covered" in output
    assert f"picture: {tmp_path / 'samples.png'}" in output
    assert is_picture(tmp_path / "samples.png")
    assert "60/60" in errors


def test_the_command_reports_a_leak_with_status_1(tmp_path: Path) -> None:
    """Property: a leak ends the run with the finding on standard error, and no traceback."""
    status, output, errors = call("--steps", "60", "--plant-leak", "--out", tmp_path)
    assert status == 1
    assert output == ""
    assert "GG101 `critic_loss` reaches `generator`" in errors
    assert "Traceback" not in errors


def test_a_recorded_leak_is_still_status_1(tmp_path: Path) -> None:
    """Property: letting the run end does not make it clean."""
    status, output, _ = call(
        "--steps", "5", "--plant-leak", "--on-violation", "record", "--out", tmp_path
    )
    assert status == 1
    assert "GG101" in output
    assert "checkpoint:" in output


def test_without_matplotlib_a_run_ends_without_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Property: the plotting library is optional."""
    monkeypatch.setattr(picture, "available", lambda: False)
    result = demo_run(tmp_path, steps=2)
    assert result.picture is None
    assert result.checkpoint.exists()


def test_a_run_makes_its_folder(tmp_path: Path) -> None:
    """Property: missing parents are no error."""
    settings = load(demo_run(tmp_path / "a" / "b", steps=1).checkpoint)["settings"]
    assert settings["steps"] == 1

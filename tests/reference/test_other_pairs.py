from __future__ import annotations

from pathlib import Path

import pytest
import torch
from reference_support import outcome, same_bits, small
from torch import Tensor, nn

from gradguard.reference import Mixture, Pair, Settings, Trainer, run


class Stripes:
    """Small grey images of horizontal or vertical stripes."""

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """Draw images, ``(count, 1, 8, 8)``."""
        wave = (torch.arange(8) % 4 < 2).float().expand(8, 8)
        flip = torch.rand(count, 1, 1, generator=rng) < 0.5
        return torch.where(flip, wave, wave.T).unsqueeze(1)


def convolutional_pair(settings: Settings) -> Pair:
    """Build a pair for 8 by 8 images."""
    return Pair(
        critic=nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.SiLU(), nn.Flatten(), nn.Linear(64, 1)
        ),
        generator=nn.Sequential(
            nn.Linear(settings.latent, 64),
            nn.Unflatten(1, (4, 4, 4)),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.ConvTranspose2d(4, 1, 4, stride=2, padding=1),
        ),
    )


@pytest.mark.parametrize("constraint", ["penalty", "clip"])
@pytest.mark.parametrize("amp", ["off", "bfloat16"])
def test_images_and_convolutions_plug_in(constraint: str, amp: str) -> None:
    """Property: another pair and another source train under the same loop and guard."""
    settings = small(constraint=constraint, amp=amp)
    trainer = Trainer(settings, make_pair=convolutional_pair, source=Stripes())
    before = outcome(trainer)
    trainer.train()
    after = outcome(trainer)
    assert list(trainer.guard.findings) == []
    assert trainer.sample(3).shape == (3, 1, 8, 8)
    for name in ("critic", "generator"):
        assert not same_bits(before[name], after[name])


def test_a_plugged_in_pair_resumes_like_the_default_one() -> None:
    """Property: nothing in a resumed run depends on which pair it is."""
    trainers = [Trainer(small(), make_pair=convolutional_pair, source=Stripes()) for _ in range(3)]
    whole, first, second = trainers
    whole.train()
    torch.manual_seed(0)
    first.train(until=2)
    second.load_state_dict(first.state_dict())
    second.train()
    for name in ("critic", "generator", "critic_optimizer", "generator_optimizer", "metrics"):
        assert same_bits(outcome(second)[name], outcome(whole)[name])


def test_another_mixture_is_measured_by_its_own_modes(tmp_path: Path) -> None:
    """Property: quality and picture follow the mixture that was trained on."""
    result = run(small(), tmp_path, mixture=Mixture(modes=3, radius=1.0, sigma=5.0))
    assert result.quality.modes == len(result.quality.shares) == 3
    assert result.quality.covered == 3

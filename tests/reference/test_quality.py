from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from gradguard.reference import Mixture, Settings, Trainer, measure

COUNT = 10_000


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_default_run_learns_the_mixture(seed: int) -> None:
    """Property: at least 7 of 8 modes and 80 % good samples; benchmarks.reference says how fast."""
    trainer = Trainer(Settings(seed=seed))
    trainer.train()
    quality = measure(trainer.sample(COUNT), Mixture())
    assert quality.covered >= 7
    assert quality.good >= 0.8
    assert list(trainer.guard.findings) == []


def test_the_mixture_itself_is_of_full_quality() -> None:
    """Property: true samples cover every mode, and 98.9 % of them lie within 3 sigma."""
    quality = measure(Mixture().draw(COUNT, torch.Generator().manual_seed(0)), Mixture())
    assert quality.covered == 8
    assert quality.good == pytest.approx(0.989, abs=0.005)
    assert min(quality.shares) > 0.11


@given(present=st.sets(st.integers(0, 7)), stray=st.integers(0, 400))
@settings(max_examples=30, deadline=None)
def test_what_is_missing_is_not_counted(present: set[int], stray: int) -> None:
    """Property: covered modes are those that have samples; strays between modes are never good."""
    mixture = Mixture()
    centers = mixture.centers
    near = [centers[mode].repeat(100, 1) for mode in present]
    samples = torch.cat([*near, torch.zeros(stray + 1, 2)])
    quality = measure(samples, mixture)
    assert quality.covered == len(present)
    assert quality.good == pytest.approx(100 * len(present) / len(samples))


@pytest.mark.parametrize(("count", "covered"), [(199, 0), (200, 1)])
def test_a_mode_is_covered_from_two_percent_on(count: int, covered: int) -> None:
    """Property: 200 of 10,000 samples within 3 sigma cover a mode, 199 do not."""
    mixture = Mixture()
    samples = torch.zeros(COUNT, 2)
    samples[:count] = mixture.centers[3] + torch.tensor([0.0, 2.9 * mixture.sigma])
    samples[count:400] = mixture.centers[3] + torch.tensor([0.0, 3.1 * mixture.sigma])
    assert measure(samples, mixture).covered == covered


def test_the_same_seed_draws_the_same_points_and_touches_nothing_else() -> None:
    """Property: a mixture takes all its randomness from the generator it is given."""
    before = torch.get_rng_state()
    first, second = (Mixture().draw(50, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_looking_at_samples_does_not_change_the_run() -> None:
    """Property: sampling draws on no random stream of the run, and leaves modes as they were."""
    trainer = Trainer(Settings(steps=2, batch=4, width=4))
    part = next(trainer.generator.children())
    part.eval()
    streams = (torch.get_rng_state(), trainer.noise_rng.get_state())
    assert trainer.sample(7).shape == (7, 2)
    assert torch.equal(streams[0], torch.get_rng_state())
    assert torch.equal(streams[1], trainer.noise_rng.get_state())
    assert trainer.generator.training
    assert not part.training

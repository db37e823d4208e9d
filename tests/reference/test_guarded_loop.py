from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from reference_support import gradients, in_words, outcome, same_bits, small
from torch import Tensor, nn

import gradguard
from gradguard.reference import Pair, Settings, Trainer, mlp_pair, trainer as loop

VARIANTS: list[dict[str, Any]] = [
    {},
    {"constraint": "clip"},
    {"n_critic": 1},
    {"reuse_fake": False},
    {"amp": "bfloat16"},
    {"amp": "float16"},
]


def normalising_pair(settings: Settings) -> Pair:
    """Build a pair with buffers in both models, and dropout in the critic."""
    return Pair(
        critic=nn.Sequential(nn.Linear(2, 8), nn.LayerNorm(8), nn.Dropout(0.2), nn.Linear(8, 1)),
        generator=nn.Sequential(
            nn.Linear(settings.latent, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)
        ),
    )


@pytest.mark.parametrize("make_pair", [mlp_pair, normalising_pair])
@pytest.mark.parametrize("variant", VARIANTS, ids=in_words)
def test_training_under_guard_is_bit_identical(variant: dict[str, Any], make_pair: Any) -> None:
    """Property: parameters, optimizer state, buffers, random states and losses are the same."""
    guarded = Trainer(small(**variant, steps=12), make_pair=make_pair)
    guarded.train()
    plain = Trainer(small(**variant, steps=12, guard=False), make_pair=make_pair)
    plain.train()
    assert same_bits(outcome(guarded), outcome(plain, guard=True))
    assert list(guarded.guard.findings) == []


def test_each_loss_reaches_the_model_it_trains_and_no_other() -> None:
    """Property: the flow of a clean run is the policy."""
    trainer = Trainer(small())
    trainer.train()
    flow = trainer.guard.flow
    assert flow is not None
    for loss, model, reach in [
        ("critic_loss", "critic", gradguard.Reach.REACHED),
        ("critic_loss", "generator", gradguard.Reach.NONE),
        ("generator_loss", "generator", gradguard.Reach.REACHED),
    ]:
        assert flow[loss, model] is reach


def test_the_generator_step_computes_no_gradient_of_the_critic() -> None:
    """Property: under guard, what the critic's own step left in its gradients stays there."""
    trainer = Trainer(small(n_critic=1))
    seen: list[list[Tensor]] = []
    update = trainer._update_generator

    def watched(fake: Tensor) -> Tensor:
        seen.append(gradients(trainer.critic))
        loss = update(fake)
        seen.append(gradients(trainer.critic))
        return loss

    trainer._update_generator = watched  # type: ignore[method-assign]
    trainer.train(until=1)
    assert same_bits(*seen)


@pytest.mark.parametrize("variant", [{}, {"constraint": "clip"}, {"amp": "bfloat16"}], ids=in_words)
def test_a_planted_leak_is_raised_before_anything_is_written(variant: dict[str, Any]) -> None:
    """Property: the first backward with a leak stops the run, and no gradient or weight moved."""
    trainer = Trainer(small(**variant, plant_leak=True))
    before = outcome(trainer)
    with pytest.raises(gradguard.IsolationError) as caught:
        trainer.train()
    (finding,) = caught.value.findings
    assert (finding.code, finding.loss, finding.model) == ("GG101", "critic_loss", "generator")
    assert gradients(trainer.critic) == gradients(trainer.generator) == []
    after = outcome(trainer)
    for kept in ("critic", "generator", "critic_optimizer", "generator_optimizer"):
        assert same_bits(after[kept], before[kept])


def test_the_trace_of_a_planted_leak_names_its_lines() -> None:
    """Property: call, entry, backward and step are the lines a reader would point at."""
    trainer = Trainer(small(plant_leak=True), on_violation="record")
    trainer.train()
    (finding,) = trainer.guard.findings
    assert finding.code == "GG101"
    assert finding.count == 12
    assert {step.filename for step in finding.trace} == {loop.__file__}
    source = Path(loop.__file__).read_text(encoding="utf-8").splitlines()
    assert [source[step.location.row - 1].strip() for step in finding.trace] == [
        "fake = self.generator(noise)",
        "score_fake = self.critic(fake)",
        "self.critic_scaler.scale(objective).backward()",
        "self.critic_scaler.step(self.critic_optimizer)",
    ]
    assert "`self.critic(fake.detach())`" in str(finding.help)


def test_without_a_guard_the_leak_goes_unnoticed() -> None:
    """Property: nothing but the guard tells: the leaking run trains as the clean one does."""
    leaking = Trainer(small(plant_leak=True, guard=False))
    leaking.train()
    clean = Trainer(small(guard=False))
    clean.train()
    assert same_bits(outcome(leaking, plant_leak=False), outcome(clean))

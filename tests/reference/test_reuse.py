from __future__ import annotations

from typing import Any

import pytest
import torch
from reference_support import gradients, in_words, outcome, same_bits, small
from torch import Tensor, nn

from gradguard.reference import Pair, Settings, Trainer, mlp_pair

VARIANTS: list[dict[str, Any]] = [
    {},
    {"n_critic": 1},
    {"n_critic": 4},
    {"constraint": "clip"},
    {"amp": "bfloat16"},
    {"guard": False},
]


class Counting(nn.Module):
    """Counts its calls."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.calls = 0

    def forward(self, noise: Tensor) -> Tensor:
        """Pass on, and count."""
        self.calls += 1
        samples: Tensor = self.inner(noise)
        return samples


def counting_pair(settings: Settings) -> Pair:
    """Build the default pair with a generator that counts."""
    pair = mlp_pair(settings)
    return pair._replace(generator=Counting(pair.generator))


def normalising_pair(settings: Settings) -> Pair:
    """Build a pair whose generator normalises by batch, and so has buffers."""
    generator = nn.Sequential(
        nn.Linear(settings.latent, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)
    )
    return mlp_pair(settings)._replace(generator=generator)


def writing_pair(settings: Settings) -> Pair:
    """Build a pair whose critic overwrites its input, as an in-place first layer does."""
    pair = counting_pair(settings)
    return pair._replace(critic=nn.Sequential(nn.ReLU(inplace=True), pair.critic))


def sharing_pair(settings: Settings) -> Pair:
    """Build a pair whose critic holds, and so trains, a bias of its generator."""
    pair = counting_pair(settings)
    *_, bias = pair.generator.parameters()
    pair.critic.register_parameter("borrowed", bias)
    return pair


def twins(make_pair: Any = mlp_pair, **variant: Any) -> tuple[Trainer, Trainer]:
    """Build the same run twice, with samples reused and with samples made anew."""
    reusing, recomputing = (small(**variant, reuse_fake=reuse) for reuse in (True, False))
    return Trainer(reusing, make_pair=make_pair), Trainer(recomputing, make_pair=make_pair)


@pytest.mark.parametrize("make_pair", [mlp_pair, normalising_pair])
@pytest.mark.parametrize("variant", VARIANTS, ids=in_words)
def test_reused_samples_give_the_gradients_of_recomputed_ones(
    variant: dict[str, Any], make_pair: Any
) -> None:
    """Property: at every step, both models' gradients are the same to the last bit."""
    reusing, recomputing = twins(make_pair, **variant)
    for _ in range(6):
        reusing.train_step()
        recomputing.train_step()
        for name in ("critic", "generator"):
            kept, anew = (gradients(getattr(t, name)) for t in (reusing, recomputing))
            assert len(kept) == len(list(getattr(reusing, name).parameters()))
            assert same_bits(kept, anew)


def test_a_run_that_reuses_ends_as_one_that_recomputes() -> None:
    """Property: parameters, optimizer state, random states and losses are the same."""
    reusing, recomputing = twins()
    reusing.train()
    recomputing.train()
    assert same_bits(outcome(reusing), outcome(recomputing, reuse_fake=True))


def test_reuse_saves_one_call_of_the_generator_a_step() -> None:
    """Property: ``n_critic`` calls a step, not one more."""
    for trainer, calls in zip(twins(counting_pair, n_critic=3), (3, 4), strict=True):
        trainer.train_step()
        assert trainer.generator.calls == calls


@pytest.mark.parametrize("make_pair", [writing_pair, sharing_pair])
def test_samples_that_something_wrote_to_are_made_anew(make_pair: Any) -> None:
    """Property: if the critic changes the samples, or the generator, reuse would be wrong.

    The critic of one pair works in place, so that the samples are not the generator's any more;
    that of the other trains a bias of the generator, so that the generator would make others now.
    """
    reusing, recomputing = twins(make_pair, guard=False, constraint="clip")
    for _ in range(3):
        reusing.train_step()
        recomputing.train_step()
    assert reusing.generator.calls == recomputing.generator.calls == 9
    assert same_bits(gradients(reusing.generator), gradients(recomputing.generator))


def test_only_the_samples_that_are_reused_keep_a_graph() -> None:
    """Property: the other critic steps of a round hold no activations of the generator."""
    with_graph: list[bool] = []
    trainer = Trainer(small(n_critic=3))
    trainer.generator.register_forward_hook(
        lambda _module, _noise, fake: with_graph.append(fake.requires_grad)
    )
    trainer.train_step()
    assert with_graph == [False, False, True]


def test_noise_and_data_are_unrelated() -> None:
    """Property: one seed makes both, and yet the noise does not repeat the data's stream."""
    trainer = Trainer(small())
    assert not torch.equal(
        torch.rand(8, generator=trainer.noise_rng), torch.rand(8, generator=trainer.batches._rng)
    )

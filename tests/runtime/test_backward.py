"""Filtered backward passes take the arguments of torch's own, and write what it would write."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from twins import POLICY, Scene, pair, same

import gradguard

Filtered = Callable[..., None]


def by_function(scene: Scene, loss: Tensor, **options: Any) -> None:
    """Filter with the function alone."""
    gradguard.backward(loss, into=scene.generator, **options)


def by_guard(scene: Scene, loss: Tensor, **options: Any) -> None:
    """Filter by what the policy allows, under its guard."""
    guard = gradguard.Guard(scene.models, POLICY)
    with guard:
        guard.backward(loss, "generator_loss", **options)


def by_torch(scene: Scene, loss: Tensor, **options: Any) -> None:
    """Filter as one would without gradguard."""
    start = options.pop("gradient", None)
    torch.autograd.backward(loss, start, inputs=list(scene.generator.parameters()), **options)


either = pytest.mark.parametrize("backward", [by_function, by_guard])


def scores(scene: Scene) -> Tensor:
    """Return what the critic says of each of the generator's samples."""
    found = scene.critic(scene.generator(scene.z))
    assert isinstance(found, Tensor)
    return found


@either
def test_a_loss_that_is_no_scalar_starts_with_the_gradient_given(backward: Filtered) -> None:
    """Each sample weighs what the given gradient says; without one torch's own error comes."""
    bare, scene = pair(), pair()
    weights = torch.linspace(-1, 1, 8).reshape(8, 1)
    by_torch(bare, scores(bare), gradient=weights)
    backward(scene, scores(scene), gradient=weights)
    assert same(scene.gradients(), bare.gradients())
    assert all(p.grad is None for p in scene.critic.parameters())
    with pytest.raises(RuntimeError, match="scalar"):
        backward(scene, scores(scene))


@either
def test_a_graph_is_kept_only_if_that_is_asked_for(backward: Filtered) -> None:
    """With ``retain_graph`` a second pass adds the same again; without it the graph is gone."""
    bare, scene = pair(), pair()
    theirs, mine = scores(bare).square().mean(), scores(scene).square().mean()
    for keep in (True, False):
        by_torch(bare, theirs, retain_graph=keep)
        backward(scene, mine, retain_graph=keep)
    assert same(scene.gradients(), bare.gradients())
    with pytest.raises(RuntimeError, match="second time"):
        backward(scene, mine)


@either
@pytest.mark.filterwarnings("ignore:Using backward:UserWarning")
def test_gradients_carry_a_graph_only_if_that_is_asked_for(backward: Filtered) -> None:
    """With ``create_graph`` the gradients can be differentiated again, to the same bits."""
    bare, scene = pair(), pair()
    again = []
    for each, run in ((bare, by_torch), (scene, backward)):
        loss = scores(each).square().mean()
        run(each, loss, create_graph=True)
        slopes = sum((p.grad.square().sum() for p in each.generator.parameters()), torch.zeros(()))
        again.append(torch.autograd.grad(slopes, list(each.parameters())))
    assert same(*again)
    plain = pair()
    backward(plain, scores(plain).mean())
    assert not any(p.grad.requires_grad for p in plain.generator.parameters())


def test_several_models_and_bare_parameters_may_be_written_to() -> None:
    """``into`` is a module, a parameter, or any collection of them, and nothing else is written."""
    for choose in (
        lambda scene: [scene.generator, scene.critic[0].weight],
        lambda scene: {"first": scene.generator, "second": scene.critic[0].weight},
        lambda scene: (p for p in [*scene.generator.parameters(), scene.critic[0].weight]),
    ):
        bare, scene = pair(), pair()
        scores(bare).mean().backward()
        gradguard.backward(scores(scene).mean(), into=choose(scene))
        written = [*scene.generator.parameters(), scene.critic[0].weight]
        theirs = [*bare.generator.parameters(), bare.critic[0].weight]
        assert same([p.grad for p in written], [p.grad for p in theirs])
        others = {id(p) for p in scene.parameters()} - {id(p) for p in written}
        assert all(p.grad is None for p in scene.parameters() if id(p) in others)


def test_a_guards_backward_writes_what_may_be_trained_besides_what_must() -> None:
    """Under an open rule that is everything but what is never trained, strangers too."""
    bare, scene = pair(), pair()
    stranger = torch.nn.Parameter(torch.ones(()))
    policy = {"loss": gradguard.must("generator") | gradguard.never("critic")}
    guard = gradguard.Guard(scene.models, policy)
    by_torch(bare, scores(bare).mean())
    with guard:
        guard.backward((scores(scene) * stranger).mean(), "loss")
    assert same(scene.gradients(), bare.gradients())
    assert stranger.grad is not None

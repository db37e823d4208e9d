"""Optimizers and models that do not come in pairs: groups, parts, and what changes on the way."""

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch import nn
from twins import Scene, assert_clean, pair, recorded, row, said

import gradguard

APPLIED = ("GG103", "generator_loss", "critic")
STALE = ("GG204", "critic_loss", "critic")


def shared() -> Scene:
    """Build a pair with one optimizer, a parameter group for each model."""
    scene = pair()
    groups = [{"params": list(m.parameters()), "lr": 0.1} for m in scene.models.values()]
    scene.optimizers = {"both_opt": torch.optim.SGD(groups)}
    return scene


def take_turns(scene: Scene, *, clear: bool) -> None:
    """Train both models by one optimizer, the generator's loss through the critic."""
    for _ in range(2):
        scene.both_opt.zero_grad()
        critic_loss = scene.critic(scene.generator(scene.z).detach()).square().mean()
        critic_loss.backward()
        scene.both_opt.step()
        scene.both_opt.zero_grad()
        generator_loss = -scene.critic(scene.generator(scene.z)).mean()
        generator_loss.backward()
        if clear:
            scene.critic.zero_grad()
        scene.both_opt.step()  # step


def test_one_optimizer_may_hold_a_group_for_each_model() -> None:
    """What a loss leaves in the other group is applied by the shared step, unless it is cleared."""
    assert_clean(partial(take_turns, clear=True), shared)
    guard = recorded(partial(take_turns, clear=False), shared)
    assert said(guard.findings) == [(*APPLIED, row(take_turns, "step"))]


def grown(scene: Scene, *, late: bool) -> None:
    """Give the generator's optimizer the critic as a further group, before or after a step."""
    for number in range(2):
        if late and number:
            scene.generator_opt.add_param_group({"params": list(scene.critic.parameters())})
        scene.critic.zero_grad()
        scene.generator_opt.zero_grad()
        generator_loss = -scene.critic(scene.generator(scene.z)).mean()
        generator_loss.backward()
        scene.generator_opt.step()  # step


def test_a_group_that_is_added_later_is_held_from_then_on() -> None:
    """An optimizer that was known to hold one model steps two, and is judged for both."""
    assert_clean(partial(grown, late=False))
    guard = recorded(partial(grown, late=True))
    assert said(guard.findings) == [(*APPLIED, row(grown, "step"))]


def halves() -> Scene:
    """Build a pair whose critic is trained by two optimizers, one for each of its layers."""
    scene = pair()
    scene.optimizers = {
        "body_opt": torch.optim.SGD(scene.critic[0].parameters(), lr=0.1),
        "head_opt": torch.optim.SGD(scene.critic[2].parameters(), lr=0.1),
    }
    return scene


def by_halves(scene: Scene, cleared: tuple[str, ...]) -> None:
    """Train the critic by both optimizers and clear some of them."""
    for _ in range(2):
        critic_loss = scene.critic(scene.real).square().mean()
        critic_loss.backward()
        scene.body_opt.step()
        scene.head_opt.step()  # head
        for name in cleared:
            scene.optimizers[name].zero_grad()


def test_a_model_that_two_optimizers_train_is_two_accounts() -> None:
    """Each clears its own part; the one that does not steps its old gradient again."""
    assert_clean(partial(by_halves, cleared=("body_opt", "head_opt")), halves)
    guard = recorded(partial(by_halves, cleared=("body_opt",)), halves)
    assert said(guard.findings) == [(*STALE, row(by_halves, "head"))]
    assert "head_opt" in guard.findings[0].message


def test_an_optimizer_that_replaces_another_is_judged_as_itself() -> None:
    """What the old one has spent the new one spends for the first time."""

    def program(scene: Scene) -> None:
        for _ in range(3):
            critic_opt = torch.optim.SGD(scene.critic.parameters(), lr=0.1)
            critic_loss = scene.critic(scene.real).square().mean()
            critic_loss.backward()
            critic_opt.step()
            critic_opt.zero_grad()
            del critic_opt

    assert_clean(program)


@pytest.mark.parametrize("kind", ["module", "modules", "parameters", "list"])
def test_a_model_may_be_given_in_any_form(kind: str) -> None:
    """A module, several, parameters, a ``ParameterList``: the same leak is found and refused."""
    for cut in (True, False):
        scene = pair()
        generator = scene.generator
        forms = {
            "module": generator,
            "modules": [generator[0], generator[2]],
            "parameters": list(generator.parameters()),
            "list": nn.ParameterList(generator.parameters()),
        }
        models = {"critic": scene.critic, "generator": forms[kind]}
        stops = nullcontext() if cut else pytest.raises(gradguard.IsolationError)
        guard = gradguard.Guard(models, {"critic_loss": "critic"})
        with stops, guard:
            fake = generator(scene.z)
            critic_loss = scene.critic(fake.detach() if cut else fake).mean()
            critic_loss.backward()
        found = [(f.code, f.loss, f.model) for f in guard.findings]
        assert found == ([] if cut else [("GG101", "critic_loss", "generator")])
        assert all(p.grad is None for p in generator.parameters())

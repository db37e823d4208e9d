"""Hazards of parameters that change, are replaced, shared or copied: H6, H7, H11, H18, H19, H28."""

import copy
import io
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from twins import (
    POLICY,
    Program,
    Scene,
    assert_clean,
    pair,
    recorded,
    refused,
    row,
    said,
    same,
)

import gradguard
from gradguard import Reach

LEAK = ("GG101", "critic_loss", "generator")


def codes(guard: gradguard.Guard) -> list[tuple[str, str | None, str | None]]:
    """Return code, loss and model of each finding."""
    return [(f.code, f.loss, f.model) for f in guard.findings]


def half_frozen() -> Scene:
    """Build a pair whose generator is frozen when the guard is entered."""
    scene = pair()
    scene.generator.requires_grad_(False)
    return scene


def test_h06_parameters_unfrozen_later_are_looked_at_again() -> None:
    """A frozen generator receives nothing; once it is unfrozen the same step is a leak."""

    def frozen_throughout(scene: Scene) -> None:
        for _ in range(2):
            critic_loss = scene.critic(scene.generator(scene.z)).mean()
            critic_loss.backward()

    assert_clean(frozen_throughout, half_frozen)

    def unfrozen(scene: Scene) -> None:
        for number in range(2):
            scene.generator.requires_grad_(number > 0)
            critic_loss = scene.critic(scene.generator(scene.z)).mean()  # leak
            critic_loss.backward()

    guard = recorded(unfrozen, half_frozen)
    assert said(guard.findings) == [(*LEAK, row(unfrozen, "leak"))]
    assert guard.findings[0].count == 1
    error, scene = refused(unfrozen, half_frozen)
    assert said(error.findings) == said(guard.findings)
    assert all(p.grad is None for p in scene.generator.parameters())


def test_h06_frozen_restores_each_parameter_as_it_was() -> None:
    """``frozen`` unfreezes nothing that the program froze, whichever parameter comes first."""
    for chosen in (0, -1):
        critic = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
        list(critic.parameters())[chosen].requires_grad_(False)
        flags = [p.requires_grad for p in critic.parameters()]
        with gradguard.frozen(critic):
            assert not any(p.requires_grad for p in critic.parameters())
        assert [p.requires_grad for p in critic.parameters()] == flags


def reloaded(module: nn.Module) -> None:
    """Replace every parameter object of a module by a new one of the same value."""
    state = {name: value.clone() for name, value in module.state_dict().items()}
    module.load_state_dict(state, assign=True)


def replaced(module: nn.Module) -> None:
    """Replace the parameter objects of a module one by one."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            setattr(part, name, nn.Parameter(parameter.detach().clone()))


@pytest.mark.parametrize("replace", [reloaded, replaced])
def test_h07_replaced_parameters_are_still_watched(replace: Callable[[nn.Module], None]) -> None:
    """After the objects were replaced a leak is found as before, and the meant model is known."""

    def program(scene: Scene, *, cut: bool) -> None:
        for number in range(3):
            if number == 1:
                replace(scene.generator)
                replace(scene.critic)
            fake = scene.generator(scene.z)
            critic_loss = scene.critic(fake.detach() if cut or not number else fake).mean()
            critic_loss.backward()

    assert_clean(lambda scene: program(scene, cut=True))
    guard = recorded(lambda scene: program(scene, cut=False))
    assert codes(guard) == [LEAK]
    assert guard.findings[0].count == 2
    error, scene = refused(lambda scene: program(scene, cut=False))
    assert [f.code for f in error.findings] == ["GG101"]
    assert all(p.grad is None for p in scene.generator.parameters())


def test_h07_parameters_given_one_by_one_are_followed_when_they_are_replaced() -> None:
    """Their module was called under the guard: what takes their place is watched in their name."""
    scene = pair()
    models = {"critic": scene.critic, "generator": list(scene.generator.parameters())}
    guard = gradguard.Guard(models, POLICY, on_violation="record")
    with guard:
        critic_loss = scene.critic(scene.generator(scene.z).detach()).mean()
        critic_loss.backward()
        reloaded(scene.generator)
        assert guard.findings == []
        critic_loss = scene.critic(scene.generator(scene.z)).mean()
        critic_loss.backward()
    assert [(f.code, f.model) for f in guard.findings] == [("GG101", "generator")]


def test_h11_requires_grad_is_read_when_backward_runs() -> None:
    """A model that is frozen between forward and backward receives nothing: no leak."""

    def program(scene: Scene, *, freeze: bool) -> None:
        scene.generator.requires_grad_(True)
        critic_loss = scene.critic(scene.generator(scene.z)).mean()
        scene.generator.requires_grad_(not freeze)
        critic_loss.backward()
        scene.critic_opt.step()
        scene.critic_opt.zero_grad()

    assert_clean(lambda scene: program(scene, freeze=True))
    assert codes(recorded(lambda scene: program(scene, freeze=False))) == [LEAK]

    def flipping(scene: Scene) -> None:
        for number in range(4):
            program(scene, freeze=number < 3)

    assert codes(recorded(flipping)) == [LEAK]
    scene = pair()
    losses = {"loss": scene.critic(scene.generator(scene.z)).mean()}
    scene.generator.requires_grad_(False)
    assert gradguard.flow(losses, scene.models)["loss", "generator"] is Reach.NONE


def test_h11_a_model_frozen_after_its_forward_is_not_starved() -> None:
    """What has nothing trainable when backward runs need not be reached."""

    def program(scene: Scene) -> None:
        critic_loss = scene.critic(scene.real).mean() + scene.z.requires_grad_().mean()
        scene.critic.requires_grad_(False)
        critic_loss.backward()
        scene.critic_opt.step()

    assert_clean(program)


def tied(other: str) -> Scene:
    """Build a student and another model that share the weight of their embeddings."""
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 2))
    teacher = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 2))
    teacher[0].weight = student[0].weight
    student_opt = torch.optim.SGD(student.parameters(), lr=0.1)
    return Scene({"student": student, other: teacher}, {"student_opt": student_opt})


def distil(scene: Scene, *, cut: bool) -> None:
    """Train a student towards its teacher's head."""
    student, teacher = scene.models.values()
    wanted = teacher[1](teacher[0](scene.z).detach())
    loss = (student(scene.z) - (wanted.detach() if cut else wanted)).square().mean()
    loss.backward()
    scene.student_opt.step()


# Four names, so that no order in which names happen to be hashed can decide.
@pytest.mark.parametrize("other", ["teacher", "target", "ema", "reference"])
def test_h18_a_shared_parameter_may_be_trained_for_an_allowed_owner(other: str) -> None:
    """The embedding is the teacher's too, which is no leak; the teacher's own head is one."""
    build = partial(tied, other)
    guard = assert_clean(lambda scene: distil(scene, cut=True), build, {"loss": "student"})
    assert guard.flow["loss", "student"] is Reach.REACHED
    guard = recorded(lambda scene: distil(scene, cut=False), build, {"loss": "student"})
    assert [(f.loss, f.model) for f in guard.findings] == [("loss", other)]
    assert f"2 of 3 `{other}` parameters" in str(guard.findings[0])


@pytest.mark.parametrize("other", ["teacher", "target", "ema", "reference"])
def test_h18_an_explicit_never_wins_over_an_allowed_owner(other: str) -> None:
    """A loss that must never train the teacher must not train what both share either."""
    policy = {"loss": {"must": ["student"], "never": [other]}}
    guard = recorded(lambda scene: distil(scene, cut=True), partial(tied, other), policy)
    assert codes(guard) == [("GG103", "loss", other)]


def test_h18_a_model_inside_a_model_is_judged_as_its_own() -> None:
    """``agent.actor`` is the actor, whose loss may train it; the rest of the agent is foreign."""

    def build() -> Scene:
        torch.manual_seed(0)
        agent = nn.ModuleDict({"actor": nn.Linear(3, 2), "critic": nn.Linear(2, 1)})
        return Scene({"agent": agent, "actor": agent["actor"]})

    def program(scene: Scene, *, cut: bool) -> None:
        values = scene.agent["critic"](scene.real)
        advantage = values.detach() if cut else values
        actor_loss = (scene.actor(scene.z) * advantage).mean()
        actor_loss.backward()

    assert_clean(lambda scene: program(scene, cut=True), build, {"actor_loss": "actor"})
    guard = recorded(lambda scene: program(scene, cut=False), build, {"actor_loss": "actor"})
    assert codes(guard) == [("GG101", "actor_loss", "agent")]


def by_deepcopy(model: nn.Module) -> nn.Module:
    """Copy a model."""
    return copy.deepcopy(model)


def by_pickle(model: nn.Module) -> nn.Module:
    """Pickle a model and read it back."""
    copied = pickle.loads(pickle.dumps(model))  # noqa: S301  it was written here
    assert isinstance(copied, nn.Module)
    return copied


def by_file(model: nn.Module) -> nn.Module:
    """Save a whole model and load it again."""
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    copied = torch.load(file, weights_only=False)
    assert isinstance(copied, nn.Module)
    return copied


@pytest.mark.parametrize("duplicate", [by_deepcopy, by_pickle, by_file])
def test_h19_copies_made_inside_a_guard_are_unguarded(
    duplicate: Callable[[nn.Module], nn.Module],
) -> None:
    """Guarded models copy, pickle and save; a loss may then train the copy, the original not."""

    def program(scene: Scene, *, through_copy: bool) -> None:
        critic_loss = scene.critic(scene.generator(scene.z).detach()).mean()
        critic_loss.backward()
        scene.critic_opt.step()
        scene.critic_opt.zero_grad()
        copied = duplicate(scene.generator)
        assert not any(m._forward_hooks or m._backward_hooks for m in copied.modules())
        assert same(copied.parameters(), scene.generator.parameters())
        generator = copied if through_copy else scene.generator
        critic_loss = scene.critic(generator(scene.z)).mean()
        critic_loss.backward()
        assert all((p.grad is None) != through_copy for p in copied.parameters())
        scene.critic_opt.step()

    assert_clean(lambda scene: program(scene, through_copy=True))
    guard = recorded(lambda scene: program(scene, through_copy=False))
    assert codes(guard) == [LEAK]


def spectral(module: nn.Module) -> None:
    """Put spectral norm on the layers of a model."""
    for layer in module:
        if isinstance(layer, nn.Linear):
            parametrizations.spectral_norm(layer)


def weighted(module: nn.Module) -> None:
    """Put weight norm on the layers of a model."""
    for layer in module:
        if isinstance(layer, nn.Linear):
            parametrizations.weight_norm(layer)


def parametrized(norm: Callable[[nn.Module], None], *, cut: bool) -> Program:
    """Make a program that renames parameters on its way."""

    def program(scene: Scene) -> None:
        for number in range(2):
            fake = scene.generator(scene.z)
            critic_loss = scene.critic(fake.detach() if cut or not number else fake).mean()
            critic_loss.backward()
            scene.critic.zero_grad()
            if not number:
                norm(scene.critic)
                norm(scene.generator)

    return program


@pytest.mark.parametrize("norm", [spectral, weighted])
@pytest.mark.parametrize("given", ["module", "pattern"])
def test_h28_a_parameter_under_a_new_name_is_the_same_parameter(
    norm: Callable[[nn.Module], None], given: str
) -> None:
    """Parametrizations inside the guard lose no parameter, given by module or by pattern."""

    def build() -> Scene:
        scene = pair()
        if given == "pattern":
            scene.models["nets"] = nn.ModuleDict({"generator": scene.generator})
            scene.models["weights"] = "nets.generator.*"
        return scene

    assert_clean(parametrized(norm, cut=True), build)
    policy = {"critic_loss": "critic"}
    if given == "pattern":
        policy = {"critic_loss": gradguard.never("weights") | gradguard.must("critic")}
    guard = recorded(parametrized(norm, cut=False), build, policy)
    model = "weights" if given == "pattern" else "generator"
    assert codes(guard) == [("GG101", "critic_loss", model)]
    # A spectral norm keeps the weight it is made from; a weight norm makes two of it.
    every = {spectral: 4, weighted: 6}[norm]
    assert f"{every} of {every} `{model}` parameters receive gradient" in str(guard.findings[0])


@pytest.mark.parametrize("norm", [spectral, weighted])
def test_h28_a_norm_on_the_weights_is_no_model_behind_them(
    norm: Callable[[nn.Module], None],
) -> None:
    """Where no call was seen, the operations that only make the weight do not decide."""
    scene = pair()
    critic = nn.Sequential(nn.Linear(2, 4, bias=False), nn.Tanh(), nn.Linear(4, 1, bias=False))
    norm(critic)
    fake = scene.generator(scene.z)
    losses = {"critic_loss": critic(fake).mean(), "generator_loss": -critic(fake).mean()}
    matrix = gradguard.flow(losses, {"critic": critic, "generator": scene.generator})
    [finding] = matrix.check(POLICY)
    assert (finding.code, finding.loss, finding.model) == LEAK


def test_h28_a_pattern_over_names_that_no_longer_exist_keeps_its_parameters() -> None:
    """A renamed parameter still belongs to the model that its old name matched."""

    def build() -> Scene:
        scene = pair()
        scene.models["first"] = "generator.0.weight"
        return scene

    def program(scene: Scene) -> None:
        parametrizations.spectral_norm(scene.generator[0])
        critic_loss = scene.critic(scene.generator(scene.z)).mean()
        critic_loss.backward()

    policy: dict[str, Any] = {"critic_loss": gradguard.never("first")}
    assert codes(recorded(program, build, policy)) == [("GG101", "critic_loss", "first")]

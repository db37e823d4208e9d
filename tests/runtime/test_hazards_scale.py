"""Hazards of size and time: memory, taps that pile up, in-place operations: H22, H23, H27."""

import gc
import sys
import weakref
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import optimizer as optimizers
from twins import POLICY, Scene, assert_clean, pair, recorded, refused, row, said

import gradguard
from gradguard import Reach

STEPS = 10_000
SLACK = 200
"""Blocks of memory by which one peak may differ from another: caches of the interpreter."""


def leaking_step(scene: Scene) -> None:
    """Take a step in which a leak is applied and a spill is cleared, so that every path is used."""
    critic_loss = scene.critic(scene.generator(scene.z)).mean()
    critic_loss.backward()
    scene.generator_opt.step()
    scene.generator_opt.zero_grad()
    generator_loss = -scene.critic(scene.generator(scene.z)).mean()
    generator_loss.backward()
    scene.critic.zero_grad()
    scene.generator_opt.step()
    scene.generator_opt.zero_grad()


def tensors_alive() -> int:
    """Count the tensors of the process."""
    return sum(issubclass(type(found), Tensor) for found in gc.get_objects())


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Switch the garbage collector off, so that cycles count as memory as well."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
def test_h22_memory_is_flat_over_ten_thousand_guarded_steps() -> None:
    """Peak memory and the number of tensors do not grow, with findings seen at every step."""
    torch.manual_seed(0)
    critic, generator = nn.Linear(2, 1), nn.Linear(3, 2)
    generator_opt = torch.optim.SGD(generator.parameters(), lr=0.0)
    scene = Scene({"critic": critic, "generator": generator}, {"generator_opt": generator_opt})
    guard = gradguard.Guard(scene.models, POLICY, on_violation="record")
    peaks: list[int] = []
    counts: list[int] = []
    with guard:
        for steps in (4_000, 3_000, STEPS - 7_000):
            peak = 0
            for _ in range(steps):
                leaking_step(scene)
                peak = max(peak, sys.getallocatedblocks())
            peaks.append(peak)
            counts.append(tensors_alive())
    assert counts[0] == counts[1] == counts[2]
    assert abs(peaks[2] - peaks[1]) <= SLACK
    found = [(f.code, f.loss, f.model, f.count) for f in guard.ledger.findings]
    assert found == [
        ("GG103", "critic_loss", "generator", STEPS),
        ("GG102", "generator_loss", "critic", STEPS),
    ]


def test_h22_taps_do_not_pile_up() -> None:
    """Guards made, nested and left a thousand times leave no hook and no memory behind."""
    scene = pair()
    tables = (
        optimizers._global_optimizer_pre_hooks,
        optimizers._global_optimizer_post_hooks,
    )
    before = [dict(table) for table in tables]
    counts: list[int] = []
    for number in range(1_000):
        with gradguard.Guard(scene.models, POLICY), gradguard.only(scene.critic):
            assert [len(table) for table in tables] == [len(table) + 1 for table in before]
            critic_loss = scene.critic(scene.real).mean()
            critic_loss.backward()
        if number in {500, 999}:
            gc.collect()
            counts.append(len(gc.get_objects()))
    assert [dict(table) for table in tables] == before
    assert counts[1] <= counts[0] + 20


def test_h22_models_and_optimizers_that_come_and_go_are_not_kept() -> None:
    """What the program drops inside a guard is freed at once, learned models included."""
    scene = pair()
    with gradguard.Guard(scene.models, POLICY), gradguard.only(scene.critic):
        for _ in range(3):
            passing = nn.Linear(3, 2)
            optimizer = torch.optim.SGD(scene.critic.parameters(), lr=0.1)
            critic_loss = scene.critic(passing(scene.z).detach()).mean()
            optimizer.zero_grad()
            critic_loss.backward()
            optimizer.step()
            kept = [weakref.ref(passing), weakref.ref(passing.weight), weakref.ref(optimizer)]
            del passing, optimizer, critic_loss
            gc.collect()
            assert [ref() for ref in kept] == [None, None, None]


def test_h23_in_place_operations_on_outputs_work_under_a_guard() -> None:
    """No module hook wraps inputs or outputs in views, which would break what is done in place."""

    def program(scene: Scene, *, cut: bool) -> None:
        fake = scene.generator(scene.z)
        fake[:, 0].mul_(2)
        functional.relu_(fake)
        score = scene.critic(fake.detach() if cut else fake).add_(1)  # leak
        critic_loss = score.square_().mean()
        critic_loss.backward()
        assert not any(m._backward_hooks or m._forward_hooks for m in scene.critic.modules())
        scene.critic_opt.step()

    assert_clean(lambda scene: program(scene, cut=True))
    guard = recorded(lambda scene: program(scene, cut=False))
    assert said(guard.findings) == [("GG101", "critic_loss", "generator", row(program, "leak"))]


def deep(scene: Scene, *, cut: bool) -> None:
    """Run a loss backward whose graph is 20,000 nodes deep, on both sides of the critic."""
    fake = scene.generator(scene.z)
    for _ in range(10_000):
        fake = fake + 1e-6
    score = scene.critic(fake.detach() if cut else fake)
    for _ in range(10_000):
        score = score * 1.0
    critic_loss = score.mean()
    critic_loss.backward()


def test_h27_deep_graphs_are_walked_without_recursion() -> None:
    """A chain of 20,000 nodes is read, accused with its path, and refused."""
    assert_clean(lambda scene: deep(scene, cut=True))
    guard = recorded(lambda scene: deep(scene, cut=False))
    assert [(f.code, f.loss, f.model) for f in guard.findings] == [
        ("GG101", "critic_loss", "generator")
    ]
    error, scene = refused(lambda scene: deep(scene, cut=False))
    assert said(error.findings) == said(guard.findings)
    loss = scene.generator(scene.z).sum()
    for _ in range(20_000):
        loss = loss + 1e-6
    assert gradguard.flow({"loss": loss}, scene.models)["loss", "generator"] is Reach.REACHED
    gradguard.assert_isolated(loss, only=scene.generator)
    with pytest.raises(gradguard.IsolationError):
        gradguard.assert_isolated(loss, only=scene.critic)

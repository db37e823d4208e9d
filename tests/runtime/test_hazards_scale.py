"""Hazards of size and time: memory, hooks that pile up, in-place operations, depth: H22, H23, H27."""

import gc
import tracemalloc
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import optimizer as optimizers

import gradguard
from gradguard import Reach

from .twins import POLICY, Scene, assert_clean, pair, recorded, refused, row, said

STEPS = 10_000
WARM = 4_000
SLACK = 32 * 1024
"""Bytes by which a peak may differ from an earlier one: caches of the interpreter and of torch."""


def leaking_step(scene: Scene) -> None:
    """Take a step in which one loss leaks and the other spills, so that every path is used."""
    fake = scene.generator(scene.z)
    critic_loss = scene.critic(fake).mean()
    critic_loss.backward(retain_graph=True)
    scene.critic_opt.step()
    scene.generator_opt.zero_grad()
    generator_loss = -scene.critic(fake.clone()).mean()
    generator_loss.backward()
    scene.generator_opt.step()
    scene.generator_opt.zero_grad()
    scene.critic_opt.zero_grad()


def frozen_step(scene: Scene) -> None:
    """Take a step whose optimizers do not change what the next forward saves."""
    fake = scene.generator(scene.z)
    critic_loss = scene.critic(fake).mean()
    critic_loss.backward()
    scene.critic_opt.step()
    scene.critic_opt.zero_grad()
    scene.generator_opt.step()
    scene.generator_opt.zero_grad()
    generator_loss = -scene.critic(scene.generator(scene.z)).mean()
    generator_loss.backward()
    scene.generator_opt.step()
    scene.generator_opt.zero_grad()
    scene.critic_opt.zero_grad()


def tensors_alive() -> int:
    """Count the tensors of the process."""
    gc.collect()
    return sum(issubclass(type(found), Tensor) for found in gc.get_objects())


def test_h22_memory_is_flat_over_ten_thousand_guarded_steps() -> None:
    """Peak memory and the number of objects do not grow, with findings seen at every step."""
    torch.manual_seed(0)
    critic, generator = nn.Linear(2, 1), nn.Linear(3, 2)
    scene = Scene(
        {"critic": critic, "generator": generator},
        {
            "critic_opt": torch.optim.SGD(critic.parameters(), lr=0.0),
            "generator_opt": torch.optim.SGD(generator.parameters(), lr=0.0),
        },
    )
    guard = gradguard.Guard(scene.models, POLICY, on_violation="record")
    peaks: list[int] = []
    counts: list[int] = []
    tracemalloc.start()
    try:
        with guard:
            for first, last in ((0, WARM), (WARM, 7_000), (7_000, STEPS)):
                tracemalloc.reset_peak()
                for _ in range(first, last):
                    frozen_step(scene)
                peaks.append(tracemalloc.get_traced_memory()[1])
                counts.append(tensors_alive())
    finally:
        tracemalloc.stop()
    assert counts[0] == counts[1] == counts[2]
    assert peaks[2] <= peaks[1] + SLACK
    assert {f.code: f.count for f in guard.findings} == {"GG103": 2 * STEPS}
    assert len(guard.ledger.findings) == 2


def test_h22_taps_do_not_pile_up() -> None:
    """A guard entered a thousand times, and nested, leaves no hook and no memory behind."""
    scene = pair()
    guard = gradguard.Guard(scene.models, POLICY)
    tables = (
        optimizers._global_optimizer_pre_hooks,
        optimizers._global_optimizer_post_hooks,
    )
    before = [dict(table) for table in tables]
    counts: list[int] = []
    for number in range(1_000):
        with guard, gradguard.only(scene.critic):
            assert [len(table) for table in tables] == [len(table) + 1 for table in before]
            critic_loss = scene.critic(scene.real).mean()
            critic_loss.backward()
        if number in (500, 999):
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
        functional.relu_(fake)
        fake[:, 0].mul_(2)
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

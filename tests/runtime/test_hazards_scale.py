"""Hazards of size and time: memory, taps that pile up, in-place operations: H22, H23, H27."""

import gc
import json
import subprocess
import sys
import weakref
from pathlib import Path

import long_training
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim import optimizer as optimizers
from twins import POLICY, Scene, assert_clean, pair, recorded, refused, row, said

import gradguard
from gradguard import Reach

SLACK = 20
"""Blocks of memory by which one peak may differ from another: caches of the interpreter."""


def test_h22_memory_is_flat_over_ten_thousand_guarded_steps() -> None:
    """Peak memory and the number of tensors do not grow, with findings seen at every step."""
    program = Path(long_training.__file__)
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert len(set(told["tensors"])) == 1
    _, second, third = told["peaks"]
    assert abs(third - second) <= SLACK
    assert told["found"] == [
        ["GG103", "critic_loss", "generator", long_training.STEPS],
        ["GG102", "generator_loss", "critic", long_training.STEPS],
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

"""``every=N``: each call site is looked at every N-th time, and guesses nothing in between."""

from __future__ import annotations

import pytest
import torch
from twins import POLICY, Scene, pair

import gradguard


def leaking(guard: gradguard.Guard, scene: Scene, live: list[bool]) -> None:
    """Run the critic's step as often as ``live`` is long, leaking where it says so."""
    with guard:
        for leaks in live:
            fake = scene.generator(scene.z)
            critic_loss = scene.critic(fake if leaks else fake.detach()).mean()
            critic_loss.backward()
            scene.critic_opt.step()
            scene.critic_opt.zero_grad()
            scene.generator_opt.zero_grad()


@pytest.mark.parametrize(("every", "looks"), [(1, 8), (2, 4), (3, 3), (8, 1), (100, 1)])
def test_every_nth_backward_of_a_call_site_is_looked_at_beginning_with_the_first(
    every: int, looks: int
) -> None:
    """Eight leaking backwards are counted as often as they are looked at."""
    scene = pair()
    guard = gradguard.Guard(scene.models, POLICY, on_violation="record", every=every)
    leaking(guard, scene, [True] * 8)
    assert [(finding.code, finding.count) for finding in guard.findings] == [("GG101", looks)]


def test_what_is_not_looked_at_is_not_accused() -> None:
    """A leak that happens between two looks only is missed, not guessed.

    The second backward is looked at as well: the first step has shown who holds what.
    """
    scene = pair()
    guard = gradguard.Guard(scene.models, POLICY, on_violation="record", every=2)
    leaking(guard, scene, [False, False, False, True] * 2)
    assert guard.findings == []


def test_a_correct_loop_stays_correct_however_rarely_it_is_looked_at() -> None:
    """Clears and steps are followed at every turn, so sampling raises no stale finding."""
    scene = pair()
    guard = gradguard.Guard(scene.models, POLICY, every=3)
    with guard:
        for _ in range(10):
            scene.critic_opt.zero_grad()
            critic_loss = scene.critic(scene.generator(scene.z).detach()).mean()
            critic_loss.backward()
            scene.critic_opt.step()
            scene.generator_opt.zero_grad()
            generator_loss = -scene.critic(scene.generator(torch.randn_like(scene.z))).mean()
            generator_loss.backward()
            scene.generator_opt.step()
    assert guard.findings == []
    assert guard.flow["generator_loss", "critic"] is gradguard.Reach.REACHED

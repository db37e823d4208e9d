"""``every=N``: each call site is looked at every N-th time, and guesses nothing in between."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
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


def test_a_leak_that_begins_between_two_looks_is_found_at_the_next_with_its_path() -> None:
    """Calls are not recorded all the time; at a look, all that it needs are there."""
    scene = pair()
    guard = gradguard.Guard(scene.models, POLICY, on_violation="record", every=5)
    leaking(guard, scene, [False] * 18 + [True] * 3)
    assert [(finding.code, finding.count) for finding in guard.findings] == [("GG101", 1)]
    lines = [step.place.source for step in guard.findings[0].trace]
    assert lines[:2] == [
        "fake = scene.generator(scene.z)",
        "critic_loss = scene.critic(fake if leaks else fake.detach()).mean()",
    ]


class Gate(nn.Module):
    """A model whose calls are passed through, though its parameter meets nothing but constants."""

    def __init__(self) -> None:
        """Begin with ones."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 2))
        self.codes = torch.ones(8, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        """Scale the inputs."""
        return inputs * (self.codes @ self.weight)


@pytest.mark.parametrize("period", [1, 2, 3, 7])
def test_a_loss_that_turns_up_between_two_looks_is_judged_by_calls(period: int) -> None:
    """Without the calls the gate would look like a dead end: a look is put off until they are."""
    gate, generator = Gate(), nn.Linear(3, 2)
    policy = {"gate_loss": "gate", "generator_loss": "generator"}
    models = {"gate": gate, "generator": generator}
    guard = gradguard.Guard(models, policy, every=4)
    with guard:
        for turn in range(80):
            gate.zero_grad()
            gate_loss = gate(torch.ones(8, 2)).mean()
            gate_loss.backward()
            if turn > 20 and turn % period == 0:
                generator_loss = gate(generator(torch.ones(8, 3))).mean()
                generator_loss.backward()
    assert guard.findings == []
    assert guard.flow["generator_loss", "gate"] is gradguard.Reach.REACHED
    assert [f.code for f in guard.ledger.findings] == ["GG102"]


def test_calls_are_not_recorded_while_nothing_is_looked_at() -> None:
    """In a loop that is known, most forwards leave no record; a new guard in it sees its own."""
    scene = pair()
    guard = gradguard.Guard(scene.models, POLICY, every=10)
    recorded = []
    with guard:
        for _ in range(41):
            before = len(guard._watch.calls.tracks["critic"].ends) if recorded else 0
            critic_loss = scene.critic(scene.real).mean()
            recorded.append(len(guard._watch.calls.tracks["critic"].ends) - before)
            critic_loss.backward()
            scene.critic_opt.zero_grad()
        with gradguard.only(scene.critic), pytest.raises(gradguard.IsolationError):
            scene.critic(scene.generator(scene.z)).mean().backward()
    assert sum(recorded[11:]) == 3
    assert recorded[20] == recorded[30] == recorded[40] == 1

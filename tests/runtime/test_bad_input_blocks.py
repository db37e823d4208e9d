"""Guards that are entered twice, again or inside each other, and blocks that end in an error."""

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from twins import POLICY, Scene, pair

import gradguard


def test_entering_an_active_guard_is_an_error_that_changes_nothing() -> None:
    """The guard stays active, goes on judging, and can be left."""
    scene = pair()
    engine = torch.autograd._engine_run_backward
    guard = gradguard.Guard(scene.models, POLICY)
    with guard:
        with pytest.raises(RuntimeError, match="active already"), guard:
            pytest.fail("the guard was entered twice")
        critic_loss = scene.critic(scene.generator(scene.z)).mean()
        with pytest.raises(gradguard.IsolationError):
            critic_loss.backward()
    assert torch.autograd._engine_run_backward is engine


def test_entering_an_active_only_is_an_error() -> None:
    """The same holds for ``only``, which may be entered again once it was left."""
    scene = pair()
    only = gradguard.only(scene.critic)
    with only, pytest.raises(RuntimeError, match="active already"), only:
        pytest.fail("the block was entered twice")
    with only:
        scene.critic(scene.real).mean().backward()


def leak(scene: Scene) -> None:
    """Let the critic's loss into the generator."""
    critic_loss = scene.critic(scene.generator(scene.z)).mean()
    critic_loss.backward()


def test_a_guard_that_is_entered_again_goes_on_counting() -> None:
    """Findings accumulate over blocks; one root cause stays one finding."""
    scene = pair()
    guard = gradguard.Guard(scene.models, POLICY, on_violation="record")
    for number in (1, 2, 3):
        with guard:
            leak(scene)
        [finding] = guard.findings
        assert (finding.code, finding.count) == ("GG101", number)


def test_what_happened_while_a_guard_was_away_is_not_held_against_the_program() -> None:
    """Gradients left at the end of one block and handled outside are forgotten at the next."""
    scene = pair()
    guard = gradguard.Guard(scene.models, POLICY)
    for _ in range(2):
        with guard:
            generator_loss = -scene.critic(scene.generator(scene.z)).mean()
            generator_loss.backward()
            scene.generator_opt.step()
        scene.critic_opt.zero_grad()
        scene.generator_opt.zero_grad()
        with guard:
            critic_loss = scene.critic(scene.real).mean()
            critic_loss.backward()
            scene.critic_opt.step()
        scene.critic_opt.zero_grad()


def test_nested_guards_judge_each_by_its_own_policy() -> None:
    """What the inner one allows the outer one may forbid, and the other way round."""
    scene = pair()
    both = {"critic_loss": ["critic", "generator"]}
    for first, second in ((POLICY, both), (both, POLICY)):
        guards = [
            gradguard.Guard(scene.models, policy, on_violation="record")
            for policy in (first, second)
        ]
        with guards[0], guards[1]:
            leak(scene)
        expected = [["GG101"] if policy is POLICY else [] for policy in (first, second)]
        assert [[f.code for f in guard.findings] for guard in guards] == expected


def test_taps_exist_once_however_many_guards_are_nested() -> None:
    """One wrapper stands before the original, and goes with the last guard."""
    scene = pair()
    taps: list[Callable[[], Any]] = [
        lambda: torch.autograd._engine_run_backward,
        lambda: nn.Module.__call__,
        lambda: nn.Module.zero_grad,
        lambda: torch.optim.Optimizer.zero_grad,
    ]
    originals = [tap() for tap in taps]
    with gradguard.Guard(scene.models, POLICY):
        outer = [tap() for tap in taps]
        assert [inspect.unwrap(tap) for tap in outer] == [inspect.unwrap(o) for o in originals]
        assert not set(outer) & set(originals)
        with gradguard.Guard(scene.models, POLICY), gradguard.only(scene.critic):
            assert [tap() for tap in taps] == outer
        assert [tap() for tap in taps] == outer
    assert [tap() for tap in taps] == originals


def test_a_refusal_by_one_nested_guard_leaves_the_others_books_right() -> None:
    """What the inner guard refuses has not landed for the outer one either."""
    scene = pair()
    both = {"critic_loss": ["critic", "generator"], "generator_loss": "generator"}
    outer = gradguard.Guard(scene.models, both)
    with outer:
        with pytest.raises(gradguard.IsolationError), gradguard.Guard(scene.models, POLICY):
            leak(scene)
        assert scene.gradients() == [None] * len(scene.gradients())
        critic_loss = scene.critic(scene.generator(scene.z)).mean()
        critic_loss.backward()
        scene.critic_opt.step()
        scene.generator_opt.step()
    assert outer.findings == []


class UnrelatedError(Exception):
    """An error of the program."""


def starve(scene: Scene) -> None:
    """Leave the critic without gradient of its loss."""
    critic_loss = scene.generator(scene.z).mean()
    critic_loss.backward()


@pytest.mark.parametrize("on_violation", ["raise", "warn", "record"])
def test_an_exception_in_the_block_is_never_replaced(on_violation: Any) -> None:
    """It arrives as the object it is, without cause or context, also where a finding is due."""
    scene = pair()
    error = UnrelatedError("the program's own")
    with (
        pytest.raises(UnrelatedError) as caught,
        gradguard.Guard(scene.models, POLICY, on_violation=on_violation),
    ):
        starve(scene)
        raise error
    assert caught.value is error
    assert (error.__cause__, error.__context__) == (None, None)
    assert not hasattr(error, "__notes__")


def test_an_exception_in_only_and_frozen_is_never_replaced() -> None:
    """Neither a starved model nor a changed buffer takes its place."""
    norm = nn.BatchNorm1d(2)
    for block in (gradguard.only(norm), gradguard.frozen(norm)):
        error = UnrelatedError()
        with pytest.raises(UnrelatedError) as caught, block:
            norm(torch.randn(4, 2))
            raise error
        assert caught.value is error


def test_a_starved_model_is_raised_at_the_end_where_nothing_else_is() -> None:
    """The same block without the exception ends in the finding."""
    scene = pair()
    with pytest.raises(gradguard.IsolationError) as caught, gradguard.Guard(scene.models, POLICY):
        starve(scene)
    [finding] = caught.value.findings
    assert (finding.code, finding.loss, finding.model) == ("GG301", "critic_loss", "critic")


def test_warnings_as_errors_reach_the_program_before_anything_is_written() -> None:
    """Under ``warn``, with warnings turned into errors, a leak stops backward whole."""
    scene = pair()
    guard = gradguard.Guard(scene.models, POLICY, on_violation="warn")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with guard, pytest.raises(gradguard.IsolationWarning, match="GG101"):
            leak(scene)
    leak(scene)


def test_every_finding_warns_once() -> None:
    """Under ``warn`` a finding is told when it is new and when it became worse, at its line."""
    scene = pair()
    guard = gradguard.Guard(scene.models, POLICY, on_violation="warn")
    with pytest.warns(gradguard.IsolationWarning) as caught, guard:
        for _ in range(3):
            leak(scene)
        for _ in range(3):
            leak(scene)
            scene.generator_opt.step()
            scene.generator_opt.zero_grad()
            scene.critic_opt.zero_grad()
    codes = [str(warning.message).split(": ")[1].split()[0] for warning in caught]
    assert codes == ["GG101", "GG103"]
    assert {warning.filename for warning in caught} == {__file__}

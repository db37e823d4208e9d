"""Hazards of compiled regions: H12."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from twins import POLICY, Scene, assert_clean, pair, recorded, row, said, same

import gradguard
from gradguard import Reach

# What torch's compiler warns of in its own code is not our subject.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
]


@pytest.fixture
def compiler() -> Iterator[Callable[..., Any]]:
    """Compile to the aot_eager backend, whole graphs only, and forget it all afterwards."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield lambda function: torch.compile(function, backend="aot_eager", fullgraph=True)
    torch._dynamo.reset()


def test_h12_compiled_models_are_unknown_until_backward_confirms(
    compiler: Callable[..., Any],
) -> None:
    """A leak between compiled models is found; the same step with a detach is clean."""
    built = pair()
    critic, generator = compiler(built.critic), compiler(built.generator)
    losses = {"critic_loss": critic(generator(built.z)).mean()}
    matrix = gradguard.flow(losses, built.models)
    assert matrix["critic_loss", "generator"] is Reach.UNKNOWN

    def build() -> Scene:
        fresh = pair()
        for name in ("critic", "generator"):
            built.models[name].load_state_dict(fresh.models[name].state_dict())
            built.models[name].zero_grad()
        return Scene({**built.models}, z=built.z, real=built.real)

    def leaking(_: Scene) -> None:
        fake = generator(built.z)
        critic_loss = critic(fake).mean()  # leak
        critic_loss.backward()

    def correct(_: Scene) -> None:
        fake = generator(built.z)
        critic_loss = critic(fake.detach()).mean()
        critic_loss.backward()

    expected = [("GG101", "critic_loss", "generator", row(leaking, "leak"))]
    assert said(recorded(leaking, build).findings) == expected
    assert_clean(correct, build)


def test_h12_a_detach_inside_a_compiled_region_is_respected(compiler: Callable[..., Any]) -> None:
    """One region that holds both models over-approximates reach; what it sends decides."""
    built = pair()

    @compiler
    def loss_of(z: Tensor, *, cut: bool) -> Tensor:
        fake = built.generator(z)
        score = built.critic(fake.detach() if cut else fake).mean()
        assert isinstance(score, Tensor)
        return score

    for cut, sent in ((True, Reach.NONE), (False, Reach.REACHED)):
        losses = {"critic_loss": loss_of(built.z, cut=cut)}
        known = gradguard.flow(losses, built.models)["critic_loss", "generator"]
        assert known in {Reach.UNKNOWN, sent}
        numeric = gradguard.flow(losses, built.models, numeric=True)
        assert numeric["critic_loss", "generator"] is sent
        guard = gradguard.Guard(built.models, POLICY, on_violation="record")
        with guard:
            critic_loss = loss_of(built.z, cut=cut)
            critic_loss.backward()
            built.generator_opt.step()
        codes = [(f.code, f.loss, f.model) for f in guard.findings]
        assert codes == ([] if cut else [("GG103", "critic_loss", "generator")])
        built.generator.zero_grad()


@pytest.mark.parametrize("mode", ["raise", "record"])
@pytest.mark.parametrize("watched", [False, True])
def test_h12_a_compiled_backward_that_frees_its_graph_is_proved_by_running(
    compiler: Callable[..., Any], mode: Any, *, watched: bool
) -> None:
    """Where autograd refuses to be asked beforehand, the real backward decides, and it runs."""
    built = pair()
    generator = compiler(built.generator)
    built.critic(generator(built.z)).mean().backward()
    with pytest.raises(RuntimeError, match="donated"):
        built.critic(generator(built.z)).mean().backward(retain_graph=True)

    def step(guard: gradguard.Guard | None, *, cut: bool) -> list[Tensor | None]:
        for parameter in built.parameters():
            parameter.grad = None
        fake = generator(built.z)
        critic_loss = built.critic(fake.detach() if cut else fake).mean()
        penalty_loss = built.critic(built.real).square().mean()
        if guard is not None and watched:
            guard.watch(critic_loss=critic_loss, penalty_loss=penalty_loss)
        with guard.loss("critic_loss") if guard is not None and not watched else nullcontext():
            (critic_loss + penalty_loss).backward()
        return built.gradients()

    policy = {"critic_loss": "critic", "penalty_loss": "critic"}
    guard = gradguard.Guard(built.models, policy, on_violation=mode)
    leaking, clean = step(None, cut=False), step(None, cut=True)
    with guard:
        assert same(step(guard, cut=True), clean)
    assert guard.findings == []
    if mode == "raise":
        with pytest.raises(gradguard.IsolationError) as caught, guard:
            step(guard, cut=False)
        found = caught.value.findings
        assert same([p.grad for p in built.generator.parameters()], [None] * 4)
    else:
        with guard:
            assert same(step(guard, cut=False), leaking)
        found = guard.findings
    assert [(f.code, f.loss, f.model) for f in found] == [("GG101", "critic_loss", "generator")]


def test_h12_a_guard_breaks_no_graph(compiler: Callable[..., Any]) -> None:
    """A step compiled without a guard is neither broken nor compiled again under one."""
    built = pair()
    critic = compiler(built.critic)
    critic(built.real).mean().backward()
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    with gradguard.Guard(built.models, POLICY):
        for _ in range(3):
            critic_loss = critic(built.real).mean()
            critic_loss.backward()
    critic(built.real).mean().backward()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled
    assert not torch._dynamo.utils.counters["graph_break"]


def test_h12_a_step_first_compiled_under_a_guard_is_whole(compiler: Callable[..., Any]) -> None:
    """Compilation inside a guard sees no trace of it: one graph, no break."""
    built = pair()
    with gradguard.Guard(built.models, POLICY):
        critic_loss = compiler(lambda x: built.critic(x).mean())(built.real)
        critic_loss.backward()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert not torch._dynamo.utils.counters["graph_break"]


def whole_step(scene: Scene, *, cut: bool) -> Callable[[], None]:
    """Return a function that takes a whole training step, backward, steps and clears included."""

    def step() -> None:
        fake = scene.generator(scene.z)
        critic_loss = scene.critic(fake.detach() if cut else fake).square().mean()
        critic_loss.backward()
        scene.critic_opt.step()
        scene.generator_opt.step()
        scene.critic_opt.zero_grad()
        scene.generator_opt.zero_grad()

    return step


@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.usefixtures("compiler")
def test_h12_a_step_compiled_with_its_backward_is_still_judged(*, cut: bool) -> None:
    """Where Dynamo runs the program's frames, backward, steps and clears are seen all the same."""
    bare, scene = pair(), pair()
    plain = torch.compile(whole_step(bare, cut=cut), backend="eager")
    step = torch.compile(whole_step(scene, cut=cut), backend="eager")
    guard = gradguard.Guard(scene.models, POLICY, on_violation="record")
    for _ in range(3):
        plain()
        with guard:
            step()
    assert same(bare.state(), scene.state())
    assert guard.flow["critic_loss", "critic"] is Reach.REACHED
    found = [(f.code, f.loss, f.model) for f in guard.findings]
    assert found == ([] if cut else [("GG103", "critic_loss", "generator")])


@pytest.mark.usefixtures("compiler")
def test_h12_a_leak_in_a_step_compiled_with_its_backward_is_refused() -> None:
    """The error comes before anything is written, out of a compiled function as well."""
    scene = pair()
    step = torch.compile(whole_step(scene, cut=False), backend="eager")
    with pytest.raises(gradguard.IsolationError), gradguard.Guard(scene.models, POLICY):
        step()
    assert scene.gradients() == [None] * len(scene.gradients())


@pytest.mark.usefixtures("compiler")
def test_h12_dynamo_compiles_nothing_of_the_guard() -> None:
    """No more frames are compiled for a step under a guard than for one without."""
    frames = []
    for guarded in (False, True):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        scene = pair()
        step = torch.compile(whole_step(scene, cut=True), backend="eager")
        with gradguard.Guard(scene.models, POLICY) if guarded else nullcontext():
            step()
            step()
        frames.append(torch._dynamo.utils.counters["frames"]["total"])
    assert 0 < frames[1] <= frames[0]

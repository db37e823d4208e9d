"""However a guarded block ends, nothing of the guard is left: compared object by object."""

import contextlib
import copy
import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as modules
from torch.optim import Optimizer, optimizer as optimizers
from torch.utils.checkpoint import checkpoint
from twins import POLICY, Scene, pair, same

import gradguard

TAPPED = [torch, torch.autograd, torch.autograd.graph, modules, optimizers]
CLASSES = [Tensor, nn.Module, nn.Parameter, Optimizer, torch.optim.SGD, torch.amp.GradScaler]


def process() -> dict[tuple[str, str], object]:
    """Return everything in the process that a tool could patch or hook, the objects themselves."""
    found: dict[tuple[str, str], object] = {}
    for holder in (*TAPPED, *CLASSES):
        for name, value in vars(holder).items():
            found[holder.__name__, name] = value
            if name.startswith("_global_") and isinstance(value, dict):
                for key, hook in value.items():
                    found[name, str(key)] = hook
    return found


def hooks(holder: object) -> list[tuple[str, object]]:
    """Return all hooks that hang on a module, a parameter or an optimizer."""
    names = ("_backward_hooks", "_post_accumulate_grad_hooks")
    tables = dict(vars(holder)) if not isinstance(holder, Tensor) else {}
    if isinstance(holder, Tensor):
        tables = {name: getattr(holder, name) for name in names}
    return [
        (name, hook)
        for name, table in tables.items()
        if "hook" in name and isinstance(table, dict)
        for hook in table.values()
    ]


def objects(scene: Scene) -> list[Any]:
    """Return what hangs on every module, parameter and optimizer of a scene."""
    found: list[Any] = []
    for model in scene.models.values():
        for part in model.modules():
            found.append((id(part), type(part), sorted(vars(part)), hooks(part)))
            found += [(name, id(value)) for name, value in part.named_parameters(recurse=False)]
    for p in scene.parameters():
        found.append((id(p), type(p), p.requires_grad, vars(p), hooks(p)))
    for optimizer in scene.optimizers.values():
        held = [id(p) for group in optimizer.param_groups for p in group["params"]]
        found.append((type(optimizer), sorted(vars(optimizer)), hooks(optimizer), held))
        found.append([sorted(group) for group in optimizer.param_groups])
        found.append(type(optimizer).__dict__.get("step"))
    return found


def assert_same_process(before: dict[tuple[str, str], object]) -> None:
    """Assert that each object stands where it stood, and no other has come."""
    after = process()
    assert after.keys() == before.keys()
    changed = [where for where, value in before.items() if after[where] is not value]
    # Pytest's own counters and torch's caches of state are not callable and may be rebound.
    assert [where for where in changed if callable(before[where])] == []


def step(scene: Scene) -> None:
    """Train both models once, correctly."""
    fake = scene.generator(scene.z)
    critic_loss = scene.critic(fake.detach()).mean()
    critic_loss.backward()
    scene.critic_opt.step()
    scene.critic_opt.zero_grad()
    generator_loss = -scene.critic(fake).mean()
    generator_loss.backward()
    scene.generator_opt.step()
    scene.critic.zero_grad()


class Interrupted(BaseException):
    """Stands for what no ``except Exception`` stops."""


def normally(scene: Scene) -> None:
    """End as blocks end."""
    with gradguard.Guard(scene.models, POLICY):
        step(scene)


def by_an_exception(scene: Scene) -> None:
    """Raise in the block."""
    with gradguard.Guard(scene.models, POLICY):
        step(scene)
        raise Interrupted


def in_a_forward(scene: Scene) -> None:
    """Raise inside a model's call, under which the guard keeps a count."""
    with gradguard.Guard(scene.models, POLICY):
        scene.critic(scene.z)


def in_a_hook_of_the_program(scene: Scene) -> None:
    """Raise inside the engine."""
    with gradguard.Guard(scene.models, POLICY, on_violation="record"):
        fake = scene.generator(scene.z)
        fake.register_hook(lambda _: scene.critic(scene.z))
        critic_loss = scene.critic(fake).mean()
        critic_loss.backward()


def before_backward(scene: Scene) -> None:
    """Refuse a leak before backward writes anything."""
    with gradguard.Guard(scene.models, POLICY):
        critic_loss = scene.critic(scene.generator(scene.z)).mean()
        critic_loss.backward()


def after_backward(scene: Scene) -> None:
    """Refuse a leak that only backward shows."""
    with gradguard.Guard(scene.models, POLICY):
        fake = checkpoint(scene.generator, scene.z.clone().requires_grad_(), use_reentrant=True)
        critic_loss = scene.critic(fake).mean()
        critic_loss.backward()


def before_a_step(scene: Scene) -> None:
    """Refuse a step with gradient that is not meant for it."""
    with gradguard.Guard(scene.models, POLICY):
        generator_loss = -scene.critic(scene.generator(scene.z)).mean()
        generator_loss.backward()
        scene.critic_opt.step()


def at_the_end(scene: Scene) -> None:
    """Find a starved model when the block has ended."""
    with gradguard.Guard(scene.models, POLICY):
        critic_loss = scene.generator(scene.z).mean()
        critic_loss.backward()


def nested(scene: Scene) -> None:
    """End several blocks of each kind, the innermost first."""
    guard = gradguard.Guard(scene.models, POLICY)
    with guard, gradguard.Guard(scene.models, POLICY, every=2):
        with gradguard.only(scene.critic), guard.loss("critic_loss"):
            critic_loss = scene.critic(scene.real).mean()
            critic_loss.backward()
        with gradguard.frozen(scene.critic):
            generator_loss = -scene.critic(scene.generator(scene.z)).mean()
            guard.backward(generator_loss, "generator_loss")


def nested_by_an_error(scene: Scene) -> None:
    """Raise through several blocks."""
    guard = gradguard.Guard(scene.models, POLICY)
    with guard, gradguard.only(scene.critic), gradguard.frozen(scene.generator):
        critic_loss = scene.critic(scene.real).mean()
        guard.watch(critic_loss=critic_loss)
        critic_loss.backward()
        raise Interrupted


def out_of_order(scene: Scene) -> None:
    """Leave the outer block before the inner one."""
    outer, inner = (gradguard.Guard(scene.models, POLICY) for _ in range(2))
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    step(scene)
    inner.__exit__(None, None, None)


def by_a_closed_generator(scene: Scene) -> None:
    """Leave the block by closing the generator it stands in."""

    def steps() -> Iterator[None]:
        with gradguard.Guard(scene.models, POLICY):
            while True:
                step(scene)
                yield

    running = steps()
    next(running)
    running.close()


def without_a_block(scene: Scene) -> None:
    """Use what needs no block."""
    loss = scene.critic(scene.real).mean()
    gradguard.flow({"loss": loss}, scene.models, numeric=True).check({"loss": "critic"})
    gradguard.assert_isolated(loss, only=scene.critic)
    gradguard.backward(loss, into=scene.critic)
    with pytest.raises(gradguard.IsolationError):
        gradguard.assert_isolated(scene.generator(scene.z).mean(), only=scene.critic)


ENDINGS = [
    normally,
    by_an_exception,
    in_a_forward,
    in_a_hook_of_the_program,
    before_backward,
    after_backward,
    before_a_step,
    at_the_end,
    nested,
    nested_by_an_error,
    out_of_order,
    by_a_closed_generator,
    without_a_block,
]
ERRORS = (gradguard.IsolationError, Interrupted, RuntimeError)
QUIET = {normally, nested, out_of_order, by_a_closed_generator, without_a_block}


def run(ending: Callable[[Scene], None], scene: Scene) -> None:
    """Run a block to its end, which is an error unless it ends quietly."""
    if ending in QUIET:
        ending(scene)
        return
    with pytest.raises(ERRORS):
        ending(scene)


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_patch_hook_and_flag_is_gone(ending: Callable[[Scene], None]) -> None:
    """The process and every module, parameter and optimizer are, object by object, as before."""
    scene = pair()
    step(scene)
    here, there = process(), objects(scene)
    run(ending, scene)
    assert_same_process(here)
    assert objects(scene) == there
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_comes_afterwards_is_unguarded_and_may_be_guarded_again(
    ending: Callable[[Scene], None],
) -> None:
    """After any ending a leak runs unhindered, and a new guard stops it."""
    scene = pair()
    run(ending, scene)
    critic_loss = scene.critic(scene.generator(scene.z)).mean()
    critic_loss.backward()
    with pytest.raises(gradguard.IsolationError), gradguard.Guard(scene.models, POLICY):
        critic_loss = scene.critic(scene.generator(scene.z)).mean()
        critic_loss.backward()


@pytest.mark.parametrize("ending", [before_backward, after_backward, before_a_step])
def test_foreign_gradients_are_the_objects_they_were(ending: Callable[[Scene], None]) -> None:
    """A refused backward or step leaves every foreign gradient, identity and bits."""
    scene = pair()
    scene.generator(scene.z).square().mean().backward()
    foreign = list(scene.generator.parameters())
    kept = [(p.grad, p.grad.clone(), p.grad._version) for p in foreign]
    moved = [p.detach().clone() for p in scene.parameters()]
    run(ending, scene)
    if ending is not before_a_step:
        assert all(p.grad is g for p, (g, _, _) in zip(foreign, kept, strict=True))
        assert same([g for g, _, _ in kept], [value for _, value, _ in kept])
        assert [g._version for g, _, _ in kept] == [version for _, _, version in kept]
    assert same(scene.parameters(), moved)


def test_each_requires_grad_is_restored_through_every_ending() -> None:
    """Mixed flags survive ``frozen`` inside a guard, whether it ends well or not."""
    scene = pair()
    scene.critic[0].weight.requires_grad_(False)
    flags = [p.requires_grad for p in scene.parameters()]
    for error in (None, Interrupted):
        with (
            contextlib.suppress(Interrupted),
            gradguard.Guard(scene.models, POLICY),
            gradguard.frozen(scene.critic, scene.generator),
        ):
            assert not any(p.requires_grad for p in scene.parameters())
            if error is not None:
                raise error
        assert [p.requires_grad for p in scene.parameters()] == flags


def saved(thing: object) -> bytes:
    """Return what ``torch.save`` writes."""
    file = io.BytesIO()
    torch.save(thing, file)
    return file.getvalue()


def test_copies_and_files_made_inside_are_those_made_outside() -> None:
    """Deep copies carry nothing, and files are the same to the byte."""
    scene = pair(momentum=0.9)
    step(scene)
    makers: list[Callable[[], bytes]] = [
        lambda: saved(scene.generator),
        lambda: saved(scene.generator.state_dict()),
        lambda: saved(scene.generator_opt.state_dict()),
        lambda: saved(scene.generator_opt),
        lambda: pickle.dumps(scene.generator),
        lambda: pickle.dumps(scene.generator_opt),
    ]
    outside = [make() for make in makers]
    plain, plain_opt = copy.deepcopy((scene.generator, scene.generator_opt))
    with gradguard.Guard(scene.models, POLICY), gradguard.only(scene.critic):
        critic_loss = scene.critic(scene.generator(scene.z).detach()).mean()
        critic_loss.backward()
        inside = [make() for make in makers]
        copied, copied_opt = copy.deepcopy((scene.generator, scene.generator_opt))
    assert inside == outside
    assert not any(b"gradguard" in data for data in inside)
    for one, other in zip(copied.modules(), plain.modules(), strict=True):
        assert (sorted(vars(one)), hooks(one)) == (sorted(vars(other)), [])
    for one, other in zip(copied.parameters(), plain.parameters(), strict=True):
        assert (vars(one), hooks(one), one.requires_grad) == (vars(other), [], True)
    assert sorted(vars(copied_opt)) == sorted(vars(plain_opt))
    assert hooks(copied_opt) == []


def test_a_patch_that_the_program_made_inside_is_left_as_it_is() -> None:
    """Whoever patches after the guard is not undone; a warning says so."""
    scene = pair()
    original = nn.Module.__call__

    def patched(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return original(self, *args, **kwargs)

    try:
        with (
            pytest.warns(RuntimeWarning, match="__call__"),
            gradguard.Guard(scene.models, POLICY),
        ):
            nn.Module.__call__ = patched
        assert nn.Module.__call__ is patched
    finally:
        nn.Module.__call__ = original

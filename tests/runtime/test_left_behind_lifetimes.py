"""What the program drops is freed at once: a guard keeps no tensor, graph, frame or local."""

import contextlib
import gc
import runpy
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from twins import POLICY, Scene, pair

import gradguard


class Token:
    """Something that lives as long as what holds it."""


class Carrying(torch.autograd.Function):
    """Keep a token alive as long as the graph lives."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, token: Token) -> Tensor:
        """Pass the input on."""
        ctx.token = token
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Pass the gradient on."""
        del ctx
        return gradients[0], None


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Switch the garbage collector off: what is freed is freed by its last reference."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def direct(scene: Scene, watched: list[weakref.ref[Any]], *, cut: bool) -> None:
    """Run a loss backward that the policy knows by its spelling, and drop everything."""
    token = Token()
    fake = Carrying.apply(scene.generator(scene.z), token)
    critic_loss = scene.critic(fake.detach() if cut else fake).mean()
    watched += [weakref.ref(thing) for thing in (token, fake, critic_loss)]
    critic_loss.backward()
    del token, fake, critic_loss
    assert [ref() for ref in watched] == [None] * len(watched)


def summed(scene: Scene, watched: list[weakref.ref[Any]], *, cut: bool) -> None:
    """Run a sum backward whose terms are looked up among the locals, and drop everything."""
    token = Token()
    fake = Carrying.apply(scene.generator(scene.z), token)
    critic_loss = scene.critic(fake.detach() if cut else fake).mean()
    generator_loss = -scene.critic(fake).mean()
    total = critic_loss + generator_loss
    watched += [weakref.ref(thing) for thing in (token, fake, critic_loss, total)]
    total.backward()
    del token, fake, critic_loss, generator_loss, total
    assert [ref() for ref in watched] == [None] * len(watched)


def through_helpers(scene: Scene, watched: list[weakref.ref[Any]], *, cut: bool) -> None:
    """Run a loss backward some calls away from the locals it was made of."""

    def descend(loss: Tensor) -> None:
        def inner(total: Tensor) -> None:
            total.backward()

        inner(loss * 1.0)

    token = Token()
    fake = Carrying.apply(scene.generator(scene.z), token)
    critic_loss = scene.critic(fake.detach() if cut else fake).mean()
    watched += [weakref.ref(thing) for thing in (token, fake, critic_loss)]
    descend(critic_loss)
    del token, fake, critic_loss
    assert [ref() for ref in watched] == [None] * len(watched)


def stepping(scene: Scene, watched: list[weakref.ref[Any]], *, cut: bool) -> None:
    """Take a whole step, leaked gradient applied, and drop everything."""
    token = Token()
    fake = Carrying.apply(scene.generator(scene.z), token)
    critic_loss = scene.critic(fake.detach() if cut else fake).mean()
    critic_loss.backward()
    scene.critic_opt.step()
    scene.generator_opt.step()
    scene.critic_opt.zero_grad()
    scene.generator_opt.zero_grad()
    watched += [weakref.ref(thing) for thing in (token, fake, critic_loss)]
    del token, fake, critic_loss
    assert [ref() for ref in watched] == [None] * len(watched)


PROGRAMS = [direct, summed, through_helpers, stepping]


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize("context", ["guard", "named", "watched", "outside"])
@pytest.mark.usefixtures("uncollected")
def test_what_the_program_drops_inside_a_guard_is_freed_at_once(
    program: Callable[..., None], context: str, *, cut: bool
) -> None:
    """No tensor, graph or frame outlives its last name, on the accusing path either."""
    scene = pair()
    watched: list[weakref.ref[Any]] = []
    guard = gradguard.Guard(scene.models, POLICY, on_violation="record")
    if context == "outside":
        program(scene, watched, cut=cut)
        watched.clear()
    with guard, guard.loss("critic_loss") if context == "named" else contextlib.nullcontext():
        if context == "watched":
            loss = scene.critic(scene.real).mean()
            watched.append(weakref.ref(loss))
            guard.watch(critic_loss=loss)
            del loss
        for _ in range(3):
            program(scene, watched, cut=cut)
            watched.clear()


@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.usefixtures("uncollected")
def test_a_forward_from_before_the_block_is_freed_as_soon_as_it_is_dropped(*, cut: bool) -> None:
    """Where models are found among the locals, no local is kept, nor the frame."""
    scene = pair()
    critic, generator = scene.critic, scene.generator

    def program() -> None:
        token = Token()
        fake = Carrying.apply(generator(scene.z), token)
        critic_loss = critic(fake.detach() if cut else fake).mean()
        watched = [weakref.ref(thing) for thing in (token, fake, critic_loss)]
        with contextlib.suppress(gradguard.IsolationError), gradguard.only(critic):
            critic_loss.backward()
        del token, fake, critic_loss
        assert [ref() for ref in watched] == [None] * len(watched)

    program()


@pytest.mark.usefixtures("uncollected")
def test_an_error_keeps_only_what_its_traceback_holds() -> None:
    """Once the IsolationError is gone, so are the tensors of the refused step."""
    scene = pair()
    watched: list[weakref.ref[Any]] = []
    guard = gradguard.Guard(scene.models, POLICY)

    def program() -> None:
        fake = scene.generator(scene.z)
        critic_loss = scene.critic(fake).mean()
        watched.extend([weakref.ref(fake), weakref.ref(critic_loss)])
        critic_loss.backward()

    with guard:
        with contextlib.suppress(gradguard.IsolationError):
            program()
        assert [ref() for ref in watched] == [None, None]
    assert len(guard.findings) == 1


def test_a_program_that_keeps_its_locals_keeps_them() -> None:
    """Looking names up empties no dictionary that the program holds itself."""
    scene = pair()

    def program() -> None:
        critic_loss = scene.critic(scene.generator(scene.z)).mean()
        total = critic_loss * 1.0
        kept = locals()
        total.backward()
        assert kept["critic_loss"] is critic_loss
        assert kept["total"] is total

    guard = gradguard.Guard(scene.models, POLICY, on_violation="record")
    with guard:
        program()
    assert [(f.code, f.loss) for f in guard.findings] == [("GG101", "critic_loss")]


SCRIPT = """
import torch, gradguard
critic, generator = torch.nn.Linear(2, 1), torch.nn.Linear(3, 2)
guard = gradguard.Guard(
    {"critic": critic, "generator": generator}, {"critic_loss": "critic"}, on_violation="record"
)
with guard:
    critic_loss = critic(generator(torch.randn(4, 3))).mean()
    total = critic_loss * 1.0
    total.backward()
class Step:
    with guard:
        critic_loss = critic(generator(torch.randn(4, 3))).mean()
        total = critic_loss * 1.0
        total.backward()
    names = sorted(name for name in vars() if not name.startswith("__"))
"""


def test_namespaces_of_modules_and_classes_are_not_emptied(tmp_path: Path) -> None:
    """Where a frame's locals are the real namespace, every name is still there afterwards."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    names = runpy.run_path(str(script))
    assert {"critic", "generator", "guard", "critic_loss", "total", "Step"} <= set(names)
    assert names["Step"].names == ["critic_loss", "total"]
    [finding] = names["guard"].findings
    assert (finding.code, finding.loss, finding.count) == ("GG101", "critic_loss", 2)


def test_a_guard_keeps_no_model_alive_longer_than_itself() -> None:
    """Once guard and models are dropped, they are freed."""
    scene = pair()
    guard = gradguard.Guard(scene.models, POLICY)
    with guard:
        critic_loss = scene.critic(scene.generator(scene.z).detach()).mean()
        critic_loss.backward()
        scene.critic_opt.step()
    watched = [weakref.ref(p) for p in scene.parameters()]
    watched += [weakref.ref(m) for m in scene.models.values()]
    watched += [weakref.ref(o) for o in scene.optimizers.values()]
    del scene, guard, critic_loss
    gc.collect()
    assert [ref() for ref in watched] == [None] * len(watched)

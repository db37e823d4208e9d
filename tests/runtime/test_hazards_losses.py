"""Hazards of losses: scaled, summed, raised in, run in threads: H15, H17, H20, H21, H30."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from twins import POLICY, Scene, assert_clean, pair, recorded, refused, row, said, same

import gradguard
from gradguard import Reach

LEAK = ("GG101", "critic_loss", "generator")


def scaled_at_the_call(scaler: torch.amp.GradScaler, critic_loss: Tensor) -> None:
    """Scale a loss where it runs backward."""
    scaler.scale(critic_loss).backward()


def scaled_before(scaler: torch.amp.GradScaler, critic_loss: Tensor) -> None:
    """Keep the scaled loss under a name that no policy knows."""
    product = scaler.scale(critic_loss)
    product.backward()


@pytest.mark.parametrize("scale_and_run", [scaled_at_the_call, scaled_before])
def test_h15_a_scaled_loss_is_known_by_its_ancestry(
    scale_and_run: Callable[[torch.amp.GradScaler, Tensor], None],
) -> None:
    """``GradScaler`` returns a new tensor; it is still the critic's loss, by name and by graph."""

    def program(scene: Scene, *, cut: bool) -> None:
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        for _ in range(3):
            scene.critic_opt.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                fake = scene.generator(scene.z)
                critic_loss = scene.critic(fake.detach() if cut else fake).float().mean()
            scale_and_run(scaler, critic_loss)
            scaler.unscale_(scene.critic_opt)
            nn.utils.clip_grad_norm_(scene.critic.parameters(), 0.01)
            scaler.step(scene.critic_opt)
            scaler.update()

    assert_clean(lambda scene: program(scene, cut=True), strict=True)
    guard = recorded(lambda scene: program(scene, cut=False), strict=True)
    assert [(f.code, f.loss, f.model, f.count) for f in guard.findings] == [(*LEAK, 3)]
    error, scene = refused(lambda scene: program(scene, cut=False), strict=True)
    assert [(f.code, f.loss, f.model) for f in error.findings] == [LEAK]
    assert scene.gradients() == [None] * len(scene.gradients())


def test_h15_a_watched_loss_is_found_in_its_scaled_form() -> None:
    """A loss that was named by tensor is recognised below whatever was made of it."""

    def program(scene: Scene, guard: gradguard.Guard | None = None) -> None:
        computed = scene.critic(scene.generator(scene.z).detach()).mean()
        if guard is not None:
            guard.watch(critic_loss=computed)
        torch.amp.GradScaler("cpu").scale(computed).backward()

    bare, scene = pair(), pair()
    program(bare)
    guard = gradguard.Guard(scene.models, POLICY, strict=True)
    with guard:
        program(scene, guard)
    assert guard.findings == []
    assert guard.flow["critic_loss", "critic"] is Reach.REACHED
    assert same(bare.state(), scene.state())


def losses_of(scene: Scene, *, cut: bool) -> tuple[Tensor, Tensor]:
    """Return the losses of critic and generator, each through the same critic."""
    fake = scene.generator(scene.z)
    score = scene.critic(fake.detach() if cut else fake)
    return score.square().mean(), -scene.critic(fake).mean()


def as_sum(left: Tensor, right: Tensor) -> None:
    """Run two losses backward as their sum."""
    (left + 0.5 * right).backward()


def as_list(left: Tensor, right: Tensor) -> None:
    """Run two losses backward as a list."""
    torch.autograd.backward([left, right])


@pytest.mark.parametrize("run", [as_sum, as_list])
@pytest.mark.parametrize("on_violation", ["record", "raise"])
def test_h17_one_backward_of_several_losses_is_judged_loss_by_loss(
    run: Callable[[Tensor, Tensor], None], on_violation: str
) -> None:
    """The critic's leak is found though the generator's loss rightly reaches the same model."""
    for cut in (True, False):
        bare = pair()
        run(*losses_of(bare, cut=cut))
        scene = pair()
        guard = gradguard.Guard(scene.models, POLICY, on_violation=on_violation, strict=True)
        stops = not cut and on_violation == "raise"
        stopped = pytest.raises(gradguard.IsolationError) if stops else nullcontext()
        with stopped, guard:
            first, second = losses_of(scene, cut=cut)
            guard.watch(critic_loss=first, generator_loss=second)
            run(first, second)
        assert [(f.code, f.loss, f.model) for f in guard.findings] == ([] if cut else [LEAK])
        if stops:
            assert scene.gradients() == [None] * len(scene.gradients())
        else:
            assert same(bare.gradients(), scene.gradients())
            assert guard.flow["generator_loss", "generator"] is Reach.REACHED


def test_h17_terms_of_a_sum_are_found_by_the_names_the_program_gives_them() -> None:
    """Without ``watch`` the policy's names are looked up where backward was called."""

    def program(scene: Scene, *, cut: bool) -> None:
        critic_loss, generator_loss = losses_of(scene, cut=cut)
        total = critic_loss + generator_loss
        total.backward()

    assert_clean(lambda scene: program(scene, cut=True), strict=True)
    guard = recorded(lambda scene: program(scene, cut=False), strict=True)
    assert [(f.code, f.loss, f.model) for f in guard.findings] == [LEAK]


def in_a_loop(critic_loss: Tensor, generator_loss: Tensor) -> None:
    """Run losses backward under one name that is none of theirs."""
    for loss in (critic_loss, generator_loss):
        loss.backward(retain_graph=True)


def by_a_helper(critic_loss: Tensor, generator_loss: Tensor) -> None:
    """Run losses backward at one call site that is known by its callers."""

    def descend(loss: Tensor) -> None:
        loss.backward(retain_graph=True)

    descend(critic_loss)
    descend(generator_loss)


@pytest.mark.parametrize("run", [in_a_loop, by_a_helper])
def test_h17_losses_that_share_a_call_site_keep_their_names(
    run: Callable[[Tensor, Tensor], None],
) -> None:
    """One backward line serves both losses, turn by turn, and each is judged as itself."""

    def program(scene: Scene, *, cut: bool) -> None:
        for _ in range(3):
            run(*losses_of(scene, cut=cut))

    guard = assert_clean(lambda scene: program(scene, cut=True), strict=True)
    assert guard.flow.losses == ("critic_loss", "generator_loss")
    guard = recorded(lambda scene: program(scene, cut=False), strict=True)
    assert [(f.code, f.loss, f.model, f.count) for f in guard.findings] == [(*LEAK, 3)]


def test_h20_raising_leaves_gradients_as_they_were_and_the_graph_usable() -> None:
    """A refused backward has written nothing and freed nothing: it can be run filtered instead."""

    def start(scene: Scene) -> None:
        (scene.generator(scene.z).square().mean() + scene.critic(scene.real).mean()).backward()

    scene = pair()
    start(scene)
    before = scene.gradients()
    values = [None if g is None else g.clone() for g in before]
    with gradguard.Guard(scene.models, POLICY):
        critic_loss = scene.critic(scene.generator(scene.z)).square().mean()
        with pytest.raises(gradguard.IsolationError):
            critic_loss.backward()
        after = scene.gradients()
        assert all(new is old for new, old in zip(after, before, strict=True))
        assert same(after, values)
        gradguard.backward(critic_loss, into=scene.critic)
    alone = pair()
    start(alone)
    loss = alone.critic(alone.generator(alone.z)).square().mean()
    torch.autograd.backward(loss, inputs=list(alone.critic.parameters()))
    assert same(scene.gradients(), alone.gradients())


class HookError(Exception):
    """What a program's own hook raises."""


def explode(_: Tensor) -> Tensor:
    """Fail as a hook of the program."""
    raise HookError


@pytest.mark.parametrize(
    ("on_violation", "cut"), [("raise", True), ("record", True), ("record", False)]
)
def test_h20_an_error_in_the_programs_own_hook_is_never_replaced(
    on_violation: str, *, cut: bool
) -> None:
    """It comes out of backward as it is, with the gradients that an unguarded program is left."""

    def program(scene: Scene) -> None:
        generator_loss = -scene.critic(scene.generator(scene.z)).mean()
        generator_loss.backward()
        fake = scene.generator(scene.z)
        fake = fake.detach() if cut else fake
        fake.requires_grad_().register_hook(explode)
        critic_loss = scene.critic(fake).mean()
        critic_loss.backward()

    bare, scene = pair(), pair()
    with pytest.raises(HookError):
        program(bare)
    guard = gradguard.Guard(scene.models, POLICY, on_violation=on_violation)
    with pytest.raises(HookError) as caught, guard:
        program(scene)
    assert caught.value.__cause__ is None
    assert same(bare.gradients(), scene.gradients())


def in_threads(count: int, work: Callable[[int], object]) -> None:
    """Run ``work`` in several threads at once; raise what any of them raised."""
    barrier = threading.Barrier(count)

    def start(number: int) -> None:
        barrier.wait(timeout=120)
        work(number)

    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(start, number) for number in range(count)]:
            done.result(timeout=300)


def many(count: int) -> Scene:
    """Build several pairs."""
    scenes = [pair() for _ in range(count)]
    models = {f"{name}_{i}": m for i, s in enumerate(scenes) for name, m in s.models.items()}
    scene = Scene(models)
    scene.__dict__["pairs"] = scenes
    return scene


def test_h21_losses_in_several_threads_keep_their_names() -> None:
    """Each thread's loss is its own; of four threads the one that leaks is named, and no other."""
    count = 4
    policy = {f"loss_{number}": f"critic_{number}" for number in range(count)}

    def train(scene: Scene, guard: gradguard.Guard | None, number: int) -> None:
        own = scene.pairs[number]
        for _ in range(20):
            own.critic_opt.zero_grad()
            fake = own.generator(own.z)
            loss = own.critic(fake if number == 2 else fake.detach()).mean()
            if guard is None:
                loss.backward()
            else:
                with guard.loss(f"loss_{number}"):
                    loss.backward()
            own.critic_opt.step()

    bare, scene = many(count), many(count)
    for number in range(count):
        train(bare, None, number)
    guard = gradguard.Guard(scene.models, policy, on_violation="record", strict=True)
    with guard:
        in_threads(count, lambda number: train(scene, guard, number))
    assert same(bare.state(), scene.state())
    found = [(f.code, f.loss, f.model, f.count) for f in guard.findings]
    assert found == [("GG101", "loss_2", "generator_2", 20)]


def test_h21_a_name_given_in_one_thread_is_not_the_name_of_another() -> None:
    """While one thread's block names its loss, a backward elsewhere keeps its own name."""
    scene = pair()
    guard = gradguard.Guard(scene.models, POLICY, strict=True)

    def elsewhere() -> None:
        generator_loss = -scene.critic(scene.generator(scene.z)).mean()
        generator_loss.backward()

    with guard, guard.loss("critic_loss"), ThreadPoolExecutor(1) as pool:
        pool.submit(elsewhere).result(timeout=300)
    assert guard.flow.losses == ("generator_loss",)
    assert guard.findings == []


def test_h21_a_forward_in_one_thread_may_run_backward_in_another() -> None:
    """Verdicts hold where calls were made in a worker: a leak is one, a spill is none."""
    for cut in (True, False):
        scene = pair()
        guard = gradguard.Guard(scene.models, POLICY, on_violation="record")
        with guard, ThreadPoolExecutor(1) as pool:
            losses = pool.submit(losses_of, scene, cut=cut).result(timeout=300)
            critic_loss, generator_loss = losses
            critic_loss.backward(retain_graph=True)
            generator_loss.backward()
        assert [(f.code, f.loss, f.model) for f in guard.findings] == ([] if cut else [LEAK])


def test_h21_calls_from_threads_that_number_their_nodes_alike_are_kept_apart() -> None:
    """Each thread counts from the same number; the critic's nodes are not the generator's."""
    scene = pair()
    guard = gradguard.Guard(scene.models, POLICY, on_violation="record")
    with guard:
        with ThreadPoolExecutor(1) as pool:
            fake = pool.submit(scene.generator, scene.z).result(timeout=300)
        with ThreadPoolExecutor(1) as pool:
            score = pool.submit(scene.critic, fake).result(timeout=300)
        critic_loss = score.mean()
        critic_loss.backward()
    assert [(f.code, f.loss, f.model) for f in guard.findings] == [LEAK]


def inference_tensor(scene: Scene) -> None:
    """Use a tensor made under inference mode in a loss."""
    with torch.inference_mode():
        fake = scene.generator(scene.z)
    critic_loss = scene.critic(fake).mean()
    critic_loss.backward()


@pytest.mark.parametrize("context", ["guard", "only"])
def test_h30_an_inference_tensor_in_a_loss_raises_unchanged_with_a_hint(context: str) -> None:
    """Autograd's own error comes through; a note says what to write instead."""
    scene = pair()
    with pytest.raises(RuntimeError) as plain:
        inference_tensor(scene)
    guard = gradguard.Guard(scene.models, POLICY) if context == "guard" else None
    with pytest.raises(RuntimeError) as caught, guard or gradguard.only(scene.critic):
        inference_tensor(scene)
    assert caught.type is plain.type
    assert caught.value.args == plain.value.args
    assert any("no_grad" in note for note in caught.value.__notes__)
    assert not hasattr(plain.value, "__notes__")


def test_h30_the_same_under_no_grad_is_clean() -> None:
    """What the hint says works."""

    def program(scene: Scene) -> None:
        with torch.no_grad():
            fake = scene.generator(scene.z)
        critic_loss = scene.critic(fake).mean()
        critic_loss.backward()
        scene.critic_opt.step()

    assert_clean(program)


def test_retain_graph_lets_a_refused_loss_and_a_clean_one_share_a_forward() -> None:
    """Two losses over one graph, each backward retaining it, train the same bits."""

    def program(scene: Scene) -> None:
        fake = scene.generator(scene.z)
        score = scene.critic(fake)
        generator_loss = -score.mean()
        generator_loss.backward(retain_graph=True)
        scene.generator_opt.step()
        scene.critic_opt.zero_grad()
        critic_loss = scene.critic(fake.detach()).mean()
        critic_loss.backward(retain_graph=True)
        critic_loss.backward()
        scene.critic_opt.step()

    assert_clean(program)


def test_a_second_order_gradient_that_leaks_is_found_at_its_line() -> None:
    """An unrolled inner step carries the foreign model's graph into the loss."""

    def program(scene: Scene, *, cut: bool) -> None:
        fake = scene.generator(scene.z)
        inner = scene.critic(fake.detach() if cut else fake).square().mean()  # leak
        slopes = torch.autograd.grad(inner, list(scene.critic.parameters()), create_graph=True)
        critic_loss = sum((slope.square().sum() for slope in slopes), torch.zeros(()))
        critic_loss.backward()
        scene.critic_opt.step()

    assert_clean(lambda scene: program(scene, cut=True))
    guard = recorded(lambda scene: program(scene, cut=False))
    assert said(guard.findings) == [(*LEAK, row(program, "leak"))]

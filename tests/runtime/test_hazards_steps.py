"""Hazards of steps: accumulation, zero gradients, odd optimizers: H16, H24 to H26, H29."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from twins import POLICY, Program, Scene, assert_clean, pair, recorded, refused, row, said, same

import gradguard

LEAK = ("GG101", "critic_loss", "generator")
APPLIED = ("GG103", "critic_loss", "generator")


def codes(guard: gradguard.Guard) -> list[tuple[str, str | None, str | None]]:
    """Return code, loss and model of each finding."""
    return [(f.code, f.loss, f.model) for f in guard.findings]


def test_h16_accumulation_over_micro_batches_is_clean() -> None:
    """Several backwards of one loss before one step are neither stale nor applied twice."""

    def program(scene: Scene) -> None:
        for _ in range(3):
            for real, z in zip(scene.real.chunk(4), scene.z.chunk(4), strict=True):
                critic_loss = (
                    scene.critic(real) - scene.critic(scene.generator(z).detach())
                ).mean()
                (critic_loss / 4).backward()
            scene.critic_opt.step()
            scene.critic_opt.zero_grad()

    assert_clean(program)


@pytest.mark.parametrize("first", ["critic", "generator"])
def test_h16_a_spill_accumulated_between_meant_gradients_is_applied(first: str) -> None:
    """Where losses alternate inside one window no clear could have kept them apart: GG103."""

    def program(scene: Scene) -> None:
        for z in scene.z.chunk(2):
            fake = scene.generator(z)
            critic_loss = scene.critic(fake.detach()).square().mean()
            generator_loss = -scene.critic(fake).mean()
            if first == "critic":
                critic_loss.backward()
            generator_loss.backward()
            if first == "generator":
                critic_loss.backward()
        scene.generator_opt.step()
        scene.critic_opt.step()  # step

    guard = recorded(program)
    assert said(guard.findings) == [("GG103", "generator_loss", "critic", row(program, "step"))]


def test_h16_gradient_left_over_from_the_last_window_is_stale() -> None:
    """Without a clear, the second step spends the first window's gradient again: GG204."""

    def program(scene: Scene, *, clear: bool) -> None:
        for number in range(3):
            for real in scene.real.chunk(2):
                critic_loss = scene.critic(real).mean()
                critic_loss.backward()
            before = [p.detach().clone() for p in scene.critic.parameters()]
            try:
                scene.critic_opt.step()  # step
            except gradguard.IsolationError:
                assert number == 1
                assert same(before, scene.critic.parameters())
                raise
            if clear:
                scene.critic_opt.zero_grad()

    assert_clean(partial(program, clear=True))
    guard = recorded(partial(program, clear=False))
    assert said(guard.findings) == [("GG204", "critic_loss", "critic", row(program, "step"))]
    error, _ = refused(partial(program, clear=False))
    assert [f.code for f in error.findings] == ["GG204"]


def test_h16_gradients_kept_by_reference_change_as_they_do_without_a_guard() -> None:
    """A leak is accumulated in place, so whoever keeps a gradient object sees the same values."""

    def program(scene: Scene) -> list[Tensor]:
        generator_loss = scene.generator(scene.z).square().mean()
        generator_loss.backward()
        kept = [p.grad for p in scene.generator.parameters()]
        critic_loss = scene.critic(scene.generator(scene.z)).mean()
        critic_loss.backward()
        assert all(p.grad is g for p, g in zip(scene.generator.parameters(), kept, strict=True))
        return kept

    bare, scene = pair(), pair()
    expected = program(bare)
    guard = gradguard.Guard(scene.models, POLICY, on_violation="record")
    with guard:
        found = program(scene)
    assert codes(guard) == [LEAK]
    assert same(expected, found)


def adamw() -> Scene:
    """Build a pair whose critic has an optimizer that moves on zero gradients."""
    scene = pair()
    scene.optimizers["critic_opt"] = torch.optim.AdamW(scene.critic.parameters(), lr=0.1)
    return scene


def momentum() -> Scene:
    """Build a pair whose optimizers have momentum."""
    return pair(momentum=0.9)


def idle_step(scene: Scene, *, set_to_none: bool) -> None:
    """Step the critic in an iteration that has no loss for it."""
    critic_loss = scene.critic(scene.real).mean()
    critic_loss.backward()
    scene.critic_opt.step()
    scene.critic_opt.zero_grad(set_to_none=set_to_none)
    scene.critic_opt.step()  # idle


@pytest.mark.parametrize("build", [adamw, momentum])
def test_h24_zero_is_not_none_for_optimizers(build: Callable[[], Scene]) -> None:
    """Decay and momentum move a model whose gradient is zero, not one whose gradient is None."""
    assert_clean(partial(idle_step, set_to_none=True), build)
    guard = recorded(partial(idle_step, set_to_none=False), build)
    assert said(guard.findings) == [("GG206", None, "critic", row(idle_step, "idle"))]
    error, _ = refused(partial(idle_step, set_to_none=False), build)
    assert [f.code for f in error.findings] == ["GG206"]


def test_h24_an_optimizer_that_ignores_zeros_is_not_accused() -> None:
    """Plain SGD leaves a model with zero gradients where it is."""
    assert_clean(partial(idle_step, set_to_none=False))


def test_h24_a_leak_outlives_its_step_in_the_momentum() -> None:
    """The step that applied the leak is one finding, the later move without gradient another."""

    def program(scene: Scene) -> None:
        critic_loss = scene.critic(scene.generator(scene.z)).mean()  # leak
        critic_loss.backward()
        scene.generator_opt.step()
        scene.generator_opt.zero_grad(set_to_none=False)
        scene.generator_opt.step()  # later

    guard = recorded(program, momentum)
    assert said(guard.findings) == [
        (*APPLIED, row(program, "leak")),
        ("GG206", None, "generator", row(program, "later")),
    ]


@pytest.mark.parametrize("values", [True, False])
def test_h25_a_frozen_network_in_train_mode_still_updates_its_buffers(*, values: bool) -> None:
    """``frozen`` finds batch norm statistics that move, and none in eval mode."""
    critic = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    real = torch.randn(8, 2)
    with pytest.raises(gradguard.IsolationError) as caught, gradguard.frozen(critic, values=values):
        critic(real)
    [finding] = caught.value.findings
    assert (finding.code, finding.model) == ("GG403", "critic")
    assert ("running_mean" if values else "num_batches_tracked") in finding.message
    assert all(p.requires_grad for p in critic.parameters())
    critic.eval()
    with gradguard.frozen(critic, values=values):
        critic(real)


def quantiser() -> Scene:
    """Build an encoder and a codebook."""
    torch.manual_seed(0)
    encoder, codebook = nn.Linear(3, 2), nn.Embedding(4, 2)
    return Scene(
        {"encoder": encoder, "codebook": codebook},
        {
            "encoder_opt": torch.optim.SGD(encoder.parameters(), lr=0.1),
            "codebook_opt": torch.optim.SGD(codebook.parameters(), lr=0.1),
        },
    )


def quantise(scene: Scene, *, right: bool) -> None:
    """Train the codebook on the codes, or on the straight-through tensor, which carries none."""
    encoded = scene.encoder(scene.z)
    quantised = scene.codebook(torch.cdist(encoded, scene.codebook.weight).argmin(dim=1))
    straight = encoded + (quantised - encoded).detach()
    commitment_loss = (encoded - quantised.detach()).square().mean()
    commitment_loss.backward(retain_graph=True)
    codes_of = quantised if right else straight
    codebook_loss = (codes_of - scene.z[:, :2]).square().mean()
    codebook_loss.backward()
    scene.codebook_opt.step()
    scene.encoder_opt.step()


def test_h26_a_loss_detached_in_the_wrong_direction_starves_its_model() -> None:
    """Required reach is as strong as forbidden reach: raised before any parameter has moved."""
    policy = {"commitment_loss": "encoder", "codebook_loss": gradguard.must("codebook")}
    assert_clean(partial(quantise, right=True), quantiser, policy)
    guard = recorded(partial(quantise, right=False), quantiser, policy)
    assert codes(guard) == [("GG301", "codebook_loss", "codebook")]
    assert guard.findings[0].severity == "error"
    error, scene = refused(partial(quantise, right=False), quantiser, policy)
    assert [(f.code, f.model) for f in error.findings] == [("GG301", "codebook")]
    assert same(scene.parameters(), quantiser().parameters())


def test_h26_a_starved_loss_is_found_though_it_reaches_another_model() -> None:
    """What the loss still reaches is a consequence, not a second finding."""
    policy = {"commitment_loss": "encoder", "codebook_loss": "codebook"}
    guard = recorded(partial(quantise, right=False), quantiser, policy)
    assert codes(guard) == [("GG301", "codebook_loss", "codebook")]


def scaled(scene: Scene, *, fused: bool, scale: float) -> None:
    """Step the generator with gradient of the critic's loss, through a scaler."""
    generator_opt = torch.optim.SGD(scene.generator.parameters(), lr=0.1, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    critic_loss = scene.critic(scene.generator(scene.z)).mean()
    scaler.scale(critic_loss).backward()
    scaler.step(generator_opt)
    scaler.update()


@pytest.mark.parametrize("fused", [False, True])
def test_h29_a_step_skipped_for_inf_applies_nothing(*, fused: bool) -> None:
    """A scaler that finds inf skips the step, or lets a fused optimizer skip it: only a leak."""
    ran = recorded(partial(scaled, fused=fused, scale=1.0))
    skipped = recorded(partial(scaled, fused=fused, scale=float("inf")))
    assert codes(ran) == [APPLIED]
    assert codes(skipped) == [LEAK]


def steps_in_backward(model: nn.Module) -> None:
    """Give each parameter an optimizer of its own that steps as soon as its gradient is there."""
    for parameter in model.parameters():
        optimizer = torch.optim.SGD([parameter], lr=0.1)

        def step(_: Tensor, optimizer: torch.optim.Optimizer = optimizer) -> None:
            optimizer.step()
            optimizer.zero_grad()

        parameter.register_post_accumulate_grad_hook(step)


def in_backward(scene: Scene, *, cut: bool, hold: bool) -> None:
    """Train both models with optimizers that step inside backward."""
    steps_in_backward(scene.critic)
    steps_in_backward(scene.generator)
    for _ in range(2):
        fake = scene.generator(scene.z)
        critic_loss = scene.critic(fake.detach() if cut else fake).mean()
        critic_loss.backward()
        scene.critic.requires_grad_(not hold)
        generator_loss = -scene.critic(scene.generator(scene.z)).mean()
        generator_loss.backward()
        scene.critic.requires_grad_(True)


def test_h29_optimizers_that_step_inside_backward_spend_at_once() -> None:
    """A spill that such an optimizer consumes is applied; with the critic held it is clean."""
    assert_clean(partial(in_backward, cut=True, hold=True))
    guard = recorded(partial(in_backward, cut=True, hold=False))
    assert codes(guard) == [("GG103", "generator_loss", "critic")]


def test_h29_a_leak_into_an_optimizer_that_steps_inside_backward_is_applied() -> None:
    """Recorded it is an applied leak; raising, it is refused before anything moved."""
    guard = recorded(partial(in_backward, cut=False, hold=True))
    assert codes(guard) == [APPLIED]
    error, scene = refused(partial(in_backward, cut=False, hold=True))
    assert [(f.code, f.loss, f.model) for f in error.findings] == [LEAK]
    assert same(scene.parameters(), pair().parameters())


def closing(scene: Scene, optimizer: type[torch.optim.Optimizer], *, clear: bool) -> None:
    """Step with a closure, into gradient that a generator's loss has left in the critic."""
    optimizers: dict[type, dict[str, Any]] = {
        torch.optim.SGD: {"lr": 0.1},
        torch.optim.LBFGS: {"lr": 0.1, "max_iter": 4},
    }
    critic_opt = optimizer(scene.critic.parameters(), **optimizers[optimizer])
    for _ in range(2):
        generator_loss = -scene.critic(scene.generator(scene.z)).mean()
        generator_loss.backward()
        scene.generator_opt.step()
        scene.generator_opt.zero_grad()

        def closure() -> Tensor:
            if clear:
                critic_opt.zero_grad()
            critic_loss = scene.critic(scene.real).square().mean()
            critic_loss.backward()
            return critic_loss

        critic_opt.step(closure)  # step
        critic_opt.zero_grad()


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.LBFGS])
def test_h29_a_step_with_a_closure_spends_after_the_closures_backward(
    optimizer: type[torch.optim.Optimizer],
) -> None:
    """What lay there before is no business of a step whose closure clears it first."""
    assert_clean(partial(closing, optimizer=optimizer, clear=True))
    guard = recorded(partial(closing, optimizer=optimizer, clear=False))
    first = guard.findings[0]
    assert said([first]) == [("GG204", "generator_loss", "critic", row(closing, "step"))]


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.LBFGS])
def test_h29_a_leak_inside_a_closure_is_found_and_refused(
    optimizer: type[torch.optim.Optimizer],
) -> None:
    """A closure's backward is judged as any other, also when the step itself applies the leak."""

    def program(scene: Scene, *, cut: bool) -> None:
        every = [*scene.critic.parameters(), *scene.generator.parameters()]
        both_opt = optimizer(every, lr=0.1)

        def closure() -> Tensor:
            both_opt.zero_grad()
            fake = scene.generator(scene.z)
            critic_loss = scene.critic(fake.detach() if cut else fake).square().mean()  # leak
            critic_loss.backward()
            return critic_loss

        both_opt.step(closure)

    assert_clean(partial(program, cut=True))
    guard = recorded(partial(program, cut=False))
    assert said(guard.findings) == [(*APPLIED, row(program, "leak"))]
    error, scene = refused(partial(program, cut=False))
    assert said(error.findings) == [(*LEAK, row(program, "leak"))]
    assert same(scene.parameters(), pair().parameters())


def test_h29_a_closure_and_its_results_reach_the_optimizer_as_they_are() -> None:
    """The step returns what the closure returns, and LBFGS evaluates it as often as it would."""

    def program(scene: Scene) -> None:
        critic_opt = torch.optim.LBFGS(scene.critic.parameters(), lr=0.5, max_iter=6)
        calls: list[float] = []

        def closure() -> Tensor:
            critic_opt.zero_grad()
            critic_loss = scene.critic(scene.real).square().mean()
            critic_loss.backward()
            calls.append(critic_loss.item())
            return critic_loss

        result = critic_opt.step(closure=closure)
        scene.__dict__["seen"] = (result.item(), calls)

    bare, scene = pair(), pair()
    program(bare)
    with gradguard.Guard(scene.models, POLICY):
        program(scene)
    assert scene.seen == bare.seen
    assert len(scene.seen[1]) > 1


def gan(scene: Scene) -> None:
    """Train a GAN as the textbook does."""
    for _ in range(3):
        fake = scene.generator(scene.z)
        critic_loss = scene.critic(fake.detach()).mean() - scene.critic(scene.real).mean()
        scene.critic_opt.zero_grad()
        critic_loss.backward()
        scene.critic_opt.step()
        generator_loss = -scene.critic(fake).mean()
        scene.generator_opt.zero_grad()
        generator_loss.backward()
        scene.generator_opt.step()


@pytest.mark.parametrize("program", [gan])
def test_h24_textbook_loops_are_clean_whatever_the_optimizer(program: Program) -> None:
    """A spill that is cleared in time is no finding under SGD, momentum and AdamW."""
    for build in (pair, momentum, adamw):
        guard = assert_clean(program, build)
        assert [f.code for f in guard.ledger.findings] == ["GG102"]

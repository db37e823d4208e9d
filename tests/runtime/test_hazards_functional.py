"""Hazards of gradients that are computed without being deposited, or are zero: H8, H9, H10."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from twins import Scene, assert_clean, pair, recorded, refused, row, said

import gradguard
from gradguard import Reach


def penalty(scene: Scene, fake: Tensor) -> Tensor:
    """Return the gradient penalty of the critic between real and fake data."""
    weight = torch.rand(8, 1)
    between = weight * scene.real + (1 - weight) * fake
    between = between if between.requires_grad else between.requires_grad_()
    scores = scene.critic(between)
    [slope] = torch.autograd.grad(scores.sum(), between, create_graph=True)
    return (slope.norm(dim=1) - 1).square().mean()


def test_h08_autograd_grad_is_no_deposit() -> None:
    """A gradient penalty, its double backward and a bare ``autograd.grad`` accuse nobody."""

    def program(scene: Scene) -> None:
        for _ in range(3):
            fake = scene.generator(scene.z)
            scene.critic_opt.zero_grad()
            critic_loss = scene.critic(fake.detach()).mean() - scene.critic(scene.real).mean()
            critic_loss = critic_loss + 10 * penalty(scene, fake.detach())
            critic_loss.backward()
            scene.critic_opt.step()
            generator_loss = -scene.critic(fake).mean()
            torch.autograd.grad(generator_loss, list(scene.critic.parameters()), retain_graph=True)
            scene.generator_opt.zero_grad()
            generator_loss.backward()
            scene.generator_opt.step()

    assert_clean(program)


def test_h08_a_gradient_penalty_that_reaches_the_generator_is_a_leak() -> None:
    """Without the detach the interpolate carries the generator's graph into the critic's loss."""

    def program(scene: Scene) -> None:
        fake = scene.generator(scene.z)
        critic_loss = penalty(scene, fake)  # leak
        critic_loss.backward()

    [finding] = recorded(program).findings
    assert (finding.code, finding.loss, finding.model) == ("GG101", "critic_loss", "generator")
    error, scene = refused(program)
    assert said(error.findings) == said([finding])
    assert scene.gradients() == [None] * len(scene.gradients())


def ensemble() -> Scene:
    """Build three critics stacked for vmap, given as bare parameters, and a generator."""
    torch.manual_seed(0)
    generator = nn.Linear(3, 2)
    stacked, _ = torch.func.stack_module_state([nn.Linear(2, 1) for _ in range(3)])
    scene = Scene({"critics": list(stacked.values()), "generator": generator})
    scene.__dict__["stacked"] = stacked
    return scene


def scores(scene: Scene, fake: Tensor) -> Tensor:
    """Score with all critics of an ensemble at once."""
    skeleton = nn.Linear(2, 1)

    def one(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        result = torch.func.functional_call(skeleton, parameters, (x,))
        assert isinstance(result, Tensor)
        return result

    return torch.vmap(one, in_dims=(0, None))(scene.stacked, fake)


ENSEMBLE = {"critic_loss": "critics"}


def test_h09_stacked_parameters_belong_to_their_model() -> None:
    """A vmapped ensemble is trained by its loss, and the generator behind it is protected."""

    def correct(scene: Scene) -> None:
        critic_loss = scores(scene, scene.generator(scene.z).detach()).square().mean()
        critic_loss.backward()

    guard = assert_clean(correct, ensemble, ENSEMBLE)
    assert guard.flow["critic_loss", "critics"] is Reach.REACHED

    def leaking(scene: Scene) -> None:
        critic_loss = scores(scene, scene.generator(scene.z)).square().mean()  # leak
        critic_loss.backward()

    expected = [("GG101", "critic_loss", "generator", row(leaking, "leak"))]
    assert said(recorded(leaking, ensemble, ENSEMBLE).findings) == expected


def test_h09_detached_functional_parameters_are_the_correct_idiom() -> None:
    """Calling a model with detached parameters is clean; calling it with its own is a leak."""

    def program(scene: Scene, *, detached: bool) -> None:
        own = dict(scene.generator.named_parameters())
        held = {name: p.detach() if detached else p for name, p in own.items()}
        fake = torch.func.functional_call(scene.generator, held, (scene.z,))
        critic_loss = scene.critic(fake).mean()
        critic_loss.backward()
        gradient = torch.func.grad(lambda x: scene.critic(x).sum())(scene.real)
        assert gradient.shape == scene.real.shape

    assert_clean(lambda scene: program(scene, detached=True))
    [finding] = recorded(lambda scene: program(scene, detached=False)).findings
    assert (finding.code, finding.loss, finding.model) == ("GG101", "critic_loss", "generator")


def test_h10_reach_with_zero_value_is_no_leak() -> None:
    """``0 * sum(p)``, which DDP users add on purpose, and masked outputs accuse nobody."""

    def program(scene: Scene) -> None:
        for _ in range(4):
            unused = sum(p.sum() for p in scene.generator.parameters())
            fake = torch.where(torch.tensor(False), scene.generator(scene.z), scene.real)
            critic_loss = scene.critic(fake).mean() + 0 * unused
            scene.critic_opt.zero_grad()
            critic_loss.backward()
            scene.critic_opt.step()

    assert_clean(program)


def test_h10_zero_reach_is_told_from_reach_when_values_are_asked_for() -> None:
    """``flow(numeric=True)`` says ZERO, and a policy check takes that for allowed."""
    scene = pair()
    unused = sum(p.sum() for p in scene.generator.parameters())
    losses = {"critic_loss": scene.critic(scene.real).mean() + 0 * unused}
    assert gradguard.flow(losses, scene.models)["critic_loss", "generator"] is Reach.REACHED
    numeric = gradguard.flow(losses, scene.models, numeric=True)
    assert numeric["critic_loss", "generator"] is Reach.ZERO
    assert numeric.check({"critic_loss": "critic"}) == []
    gradguard.assert_isolated(losses["critic_loss"], only=scene.critic)


def test_h10_a_zero_that_becomes_a_gradient_is_found() -> None:
    """A suspicion that zeros acquitted is looked at again: a scale may start at zero."""

    def program(scene: Scene) -> None:
        for number in range(12):
            scale = 0.0 if number < 3 else 1.0
            critic_loss = scene.critic(scene.real + scale * scene.generator(scene.z)).mean()
            critic_loss.backward()

    [finding] = recorded(program).findings
    assert (finding.code, finding.loss, finding.model) == ("GG101", "critic_loss", "generator")


def normalised() -> Scene:
    """Build a pair whose critic has buffers that every forward in train mode changes."""
    scene = pair()
    critic = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 1))
    scene.models["critic"] = critic
    return scene


def test_h10_looking_for_proof_changes_no_buffer() -> None:
    """Backward recomputes a checkpoint, batch norm and all: asked twice, it counts once."""

    def program(scene: Scene) -> None:
        for _ in range(3):
            data = scene.real + 0 * scene.generator(scene.z)
            critic_loss = checkpoint(scene.critic, data, use_reentrant=False).mean()
            critic_loss.backward()

    assert_clean(program, normalised)

"""Hazards where the graph does not show what backward does: H1 to H5, H8 to H10, H12."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import gradguard
from gradguard import Reach

from .twins import POLICY, Scene, assert_clean, pair, recorded, refused, row, said, same


def checkpointed(model: Callable[..., Any], x: Tensor) -> Tensor:
    """Call a model in a reentrant checkpoint, which needs an input that requires gradient."""
    if not x.requires_grad:
        x = x.detach().requires_grad_()
    output = checkpoint(model, x, use_reentrant=True)
    assert isinstance(output, Tensor)
    return output


def through_checkpoint(scene: Scene) -> None:
    """Let the critic's loss into a generator that a reentrant checkpoint hides."""
    fake = checkpointed(scene.generator, scene.z)
    critic_loss = scene.critic(fake).mean()
    critic_loss.backward()  # backward


def test_h01_reentrant_checkpoint_is_opaque() -> None:
    """A leak into a reentrant checkpoint is unknown before backward and found by it."""
    scene = pair()
    critic_loss = scene.critic(checkpointed(scene.generator, scene.z)).mean()
    assert gradguard.flow({"loss": critic_loss}, scene.models)["loss", "generator"] is Reach.UNKNOWN
    guard = recorded(through_checkpoint)
    expected = ("GG101", "critic_loss", "generator", row(through_checkpoint, "backward"))
    assert said(guard.findings) == [expected]


def test_h01_a_leak_that_only_backward_shows_is_raised_after_it_and_put_back() -> None:
    """Foreign gradients are the objects they were, bit for bit; the meant ones are written."""
    scene = pair()
    scene.generator(scene.z).square().mean().backward()
    before = [(p.grad, p.grad.clone()) for p in scene.generator.parameters()]
    with pytest.raises(gradguard.IsolationError) as caught, gradguard.Guard(scene.models, POLICY):
        through_checkpoint(scene)
    expected = ("GG101", "critic_loss", "generator", row(through_checkpoint, "backward"))
    assert said(caught.value.findings) == [expected]
    after = [p.grad for p in scene.generator.parameters()]
    assert all(new is old for new, (old, _) in zip(after, before, strict=True))
    assert same(after, [value for _, value in before])
    assert all(p.grad is not None for p in scene.critic.parameters())


def test_h01_the_nested_pass_belongs_to_the_loss_that_runs_it() -> None:
    """A correct program with a checkpoint is one named backward, in a strict guard too."""

    def program(scene: Scene) -> None:
        fake = scene.generator(scene.z).detach()
        critic_loss = checkpointed(scene.critic, fake).mean()
        critic_loss.backward()

    guard = assert_clean(program, strict=True)
    assert guard.flow["critic_loss", "critic"] is Reach.REACHED
    assert guard.flow.losses == ("critic_loss",)


def test_h01_a_hidden_model_on_the_way_to_an_allowed_one_is_a_spill() -> None:
    """A generator's loss through a checkpointed critic is not accused of a leak."""

    def program(scene: Scene) -> None:
        fake = scene.generator(scene.z)
        generator_loss = -checkpointed(scene.critic, fake).mean()
        generator_loss.backward()
        scene.generator_opt.step()

    guard = assert_clean(program)
    assert [(f.code, f.model) for f in guard.ledger.findings] == [("GG102", "critic")]


def test_h02_reentrant_checkpoint_with_shared_weights_counts_once_a_backward() -> None:
    """Three passes through the same weights are one sighting, and each parameter counts once."""

    def program(scene: Scene) -> None:
        z = scene.z
        for _ in range(3):
            fake = checkpointed(scene.generator, z)
            z = torch.cat([fake, fake[:, :1]], dim=1)
        critic_loss = scene.critic(fake).mean()
        critic_loss.backward()

    [finding] = recorded(program).findings
    assert (finding.code, finding.model, finding.count) == ("GG101", "generator", 1)

    def correct(scene: Scene) -> None:
        score = scene.real
        for _ in range(3):
            score = checkpointed(scene.critic, score).expand(8, 2)
        critic_loss = score.mean()
        critic_loss.backward()
        scene.critic_opt.step()

    assert_clean(correct)


class Joined(torch.autograd.Function):
    """Add two tensors; send to the second what was asked for: gradient, zeros or nothing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, sends: str) -> Tensor:
        """Add."""
        ctx.sends = sends
        return x + y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:
        """Send the gradient to the first input, and the rest as asked."""
        [gradient] = gradients
        rest = {"gradient": gradient, "zeros": torch.zeros_like(gradient), "nothing": None}
        return gradient, rest[ctx.sends], None


def joined(scene: Scene, sends: str) -> Tensor:
    """Return a loss of the critic that enters a custom Function together with the generator."""
    score = scene.critic(scene.real).mean()
    bias = scene.generator(scene.z).mean()
    loss = Joined.apply(score, bias, sends)
    assert isinstance(loss, Tensor)
    return loss


def test_h03_a_path_through_a_custom_function_is_no_evidence_of_gradient() -> None:
    """A Function that sends None is no leak, though the graph shows a path to the generator."""

    def program(scene: Scene) -> None:
        critic_loss = joined(scene, "nothing")
        critic_loss.backward()
        scene.critic_opt.step()

    assert_clean(program)
    scene = pair()
    losses = {"loss": joined(scene, "nothing")}
    assert gradguard.flow(losses, scene.models)["loss", "generator"] is Reach.UNKNOWN
    assert gradguard.flow(losses, scene.models, numeric=True)["loss", "generator"] is Reach.NONE


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.filterwarnings("ignore:Using backward:UserWarning")
def test_h03_a_custom_function_that_sends_gradient_is_a_leak(*, create_graph: bool) -> None:
    """The same graph is a leak where the Function does send gradient, whoever proves it."""

    def program(scene: Scene) -> None:
        critic_loss = joined(scene, "gradient")
        critic_loss.backward(create_graph=create_graph)

    [finding] = recorded(program).findings
    assert (finding.code, finding.loss, finding.model) == ("GG101", "critic_loss", "generator")
    error, scene = refused(program)
    assert said(error.findings) == said([finding])
    assert scene.gradients() == [None] * len(scene.gradients())


@pytest.mark.parametrize("sends", ["nothing", "zeros"])
def test_h04_an_old_gradient_does_not_look_like_a_new_one(sends: str) -> None:
    """Gradient that lies there from before is not taken for the work of a loss that adds none."""

    def program(scene: Scene) -> None:
        generator_loss = scene.generator(scene.z).square().mean()
        generator_loss.backward()
        critic_loss = joined(scene, sends)
        critic_loss.backward()
        scene.critic_opt.step()
        scene.generator_opt.step()

    assert_clean(program)


def test_h04_an_old_gradient_does_not_hide_a_new_one() -> None:
    """A leak on top of a meant gradient is found, and accumulates as it does without a guard."""

    def program(scene: Scene) -> None:
        generator_loss = scene.generator(scene.z).square().mean()
        generator_loss.backward()
        critic_loss = scene.critic(scene.generator(scene.z)).mean()  # leak
        critic_loss.backward()

    expected = [("GG101", "critic_loss", "generator", row(program, "leak"))]
    assert said(recorded(program).findings) == expected
    error, scene = refused(program)
    assert said(error.findings) == expected
    alone = pair()
    alone.generator(alone.z).square().mean().backward()
    assert same(scene.gradients(), alone.gradients())


@pytest.mark.filterwarnings("ignore:Using backward:UserWarning")
def test_h05_create_graph_replaces_the_gradient_object() -> None:
    """A leak is found and refused in a backward that creates a graph, over an old gradient."""

    def program(scene: Scene) -> None:
        generator_loss = scene.generator(scene.z).square().mean()
        generator_loss.backward()
        critic_loss = scene.critic(scene.generator(scene.z)).square().mean()  # leak
        critic_loss.backward(create_graph=True)

    expected = [("GG101", "critic_loss", "generator", row(program, "leak"))]
    assert said(recorded(program).findings) == expected
    error, _ = refused(program)
    assert said(error.findings) == expected


class Reversible(torch.autograd.Function):
    """Hold a module and run it backward itself, as a reversible block does."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, module: nn.Module, create_graph: bool) -> Tensor:
        """Call the module, recording nothing."""
        ctx.module, ctx.create_graph = module, create_graph
        ctx.save_for_backward(x)
        output = module(x)
        assert isinstance(output, Tensor)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        """Call the module again and run it backward into its parameters."""
        [saved] = ctx.saved_tensors
        with torch.enable_grad():
            x = saved.detach().requires_grad_()
            output = ctx.module(x)
        torch.autograd.backward(output, *gradients, create_graph=ctx.create_graph)
        assert x.grad is not None
        return x.grad.detach(), None, None


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.filterwarnings("ignore:Using backward:UserWarning")
def test_h05_a_changed_gradient_is_known_by_identity_or_by_version(*, create_graph: bool) -> None:
    """What a hidden pass adds in place, and what it replaces, are both seen on top of old ones."""

    def program(scene: Scene) -> None:
        generator_loss = scene.generator(scene.z).square().mean()
        generator_loss.backward()
        z = scene.z.clone().requires_grad_()
        fake = Reversible.apply(z, scene.generator, create_graph)
        critic_loss = scene.critic(fake).mean()
        critic_loss.backward()  # backward

    expected = [("GG101", "critic_loss", "generator", row(program, "backward"))]
    assert said(recorded(program).findings) == expected
    error, _ = refused(program)
    assert said(error.findings) == expected


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

"""Hazards where the graph does not show what backward does: H1 to H5."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from twins import POLICY, Scene, assert_clean, pair, recorded, refused, row, said, same

import gradguard
from gradguard import Reach


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


@pytest.mark.parametrize("hidden", [False, True])
def test_h01_the_nested_pass_is_no_loss_of_its_own(*, hidden: bool) -> None:
    """In a sum, what one loss writes is not put down to another that hides a part of itself."""

    def program(scene: Scene) -> None:
        fake = checkpointed(scene.generator, scene.z) if hidden else scene.generator(scene.z)
        critic_loss = checkpointed(scene.critic, fake.detach()).mean()
        generator_loss = fake.square().mean()
        total = critic_loss + generator_loss
        total.backward()

    guard = assert_clean(program, strict=True)
    assert guard.flow.losses == ("critic_loss", "generator_loss")


def test_h01_a_hidden_leak_in_a_sum_is_found_where_no_other_loss_can_have_done_it() -> None:
    """The other term may not train the generator either, and its own graph hides nothing."""

    def program(scene: Scene) -> None:
        critic_loss = scene.critic(checkpointed(scene.generator, scene.z)).mean()
        penalty = scene.critic(scene.real).square().mean()
        total = critic_loss + penalty
        total.backward()

    policy = {"critic_loss": "critic", "penalty": "critic"}
    guard = recorded(program, policy=policy)
    found = [(f.code, f.loss, f.model) for f in guard.findings]
    assert found == [("GG101", "critic_loss", "generator")]
    _, scene = refused(program, policy=policy)
    assert all(p.grad is None for p in scene.generator.parameters())


def test_h01_a_hidden_model_on_the_way_to_an_allowed_one_is_a_spill() -> None:
    """A generator's loss through a checkpointed critic is not accused of a leak."""

    def program(scene: Scene) -> None:
        fake = scene.generator(scene.z)
        generator_loss = -checkpointed(scene.critic, fake).mean()
        generator_loss.backward()
        scene.generator_opt.step()

    for policy in (POLICY, {"generator_loss": gradguard.never("critic")}):
        guard = assert_clean(program, policy=policy)
        assert [(f.code, f.model) for f in guard.ledger.findings] == [("GG102", "critic")]


def shared_weights(scene: Scene) -> None:
    """Leak three times through the same weights in one backward."""
    z = scene.z
    for _ in range(3):
        fake = checkpointed(scene.generator, z)
        z = torch.cat([fake, fake[:, :1]], dim=1)
    critic_loss = scene.critic(fake).mean()
    critic_loss.backward()


@pytest.mark.parametrize("policy", [POLICY, {"critic_loss": gradguard.never("generator")}])
def test_h02_reentrant_checkpoint_with_shared_weights_counts_once_a_backward(
    policy: dict[str, Any],
) -> None:
    """Three passes through the same weights are one sighting."""
    [finding] = recorded(shared_weights, policy=policy).findings
    assert (finding.code, finding.model, finding.count) == ("GG101", "generator", 1)


def test_h02_each_parameter_counts_once_in_the_trace() -> None:
    """However often a parameter was written to, it is one of the model's four."""
    [finding] = recorded(shared_weights).findings
    assert "4 of 4 `generator` parameters" in str(finding)


def test_h02_a_loss_may_pass_its_own_weights_several_times() -> None:
    """Three checkpoints over the critic are one meant deposit, neither stale nor spilled."""

    def program(scene: Scene) -> None:
        score = scene.real
        for _ in range(3):
            score = checkpointed(scene.critic, score).expand(8, 2)
        critic_loss = score.mean()
        critic_loss.backward()
        scene.critic_opt.step()

    assert_clean(program)


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
    """A leak is found and refused in a backward that creates a graph, over an old gradient.

    Where it is let through, the gradients carry their graph as they do without a guard.
    """

    def program(scene: Scene) -> None:
        generator_loss = scene.generator(scene.z).square().mean()
        generator_loss.backward()
        critic_loss = scene.critic(scene.generator(scene.z)).square().mean()  # leak
        critic_loss.backward(create_graph=True)
        assert all(p.grad.requires_grad for p in scene.parameters())

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
    """What a hidden pass adds in place, and what it replaces, are both seen, each time anew."""

    def program(scene: Scene) -> None:
        generator_loss = scene.generator(scene.z).square().mean()
        generator_loss.backward()
        for _ in range(3):
            z = scene.z.clone().requires_grad_()
            fake = Reversible.apply(z, scene.generator, create_graph)
            critic_loss = scene.critic(fake).mean()
            critic_loss.backward()  # backward

    expected = [("GG101", "critic_loss", "generator", row(program, "backward"))]
    guard = recorded(program)
    assert said(guard.findings) == expected
    assert guard.findings[0].count == 3
    error, _ = refused(program)
    assert said(error.findings) == expected

"""What a guard says to programs and policies that it cannot work with: one clear message each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from twins import POLICY, Scene, pair, same

import gradguard


def message(caught: pytest.ExceptionInfo[BaseException]) -> str:
    """Return what an exception says, which is one line and ends without a full stop."""
    text = str(caught.value)
    assert "\n" not in text
    return text


def assert_says(text: str, *parts: str) -> None:
    """Assert that a message contains each part."""
    assert [part for part in parts if part not in text] == []


@pytest.mark.parametrize(
    "rule",
    [
        "critc",
        ["critc"],
        {"only": ["critc"]},
        {"must": ["critc"]},
        {"may": ["critc"]},
        {"never": ["critc"]},
        gradguard.never("critc"),
        gradguard.must("critic") | gradguard.may("critc"),
    ],
)
def test_a_policy_that_names_an_unknown_model_is_told_what_exists(rule: Any) -> None:
    """The message names loss and model, suggests the likely one and lists all, at construction."""
    with pytest.raises(gradguard.PolicyError) as caught:
        gradguard.Guard(pair().models, {"critic_loss": rule})
    assert_says(
        message(caught),
        "`critic_loss`",
        "`critc`",
        "did you mean `critic`?",
        "`critic`, `generator`",
    )


def test_a_pattern_that_matches_no_model_is_an_error() -> None:
    """A pattern in a policy covers something, or it is a typing error."""
    with pytest.raises(gradguard.PolicyError) as caught:
        gradguard.Guard(pair().models, {"critic_loss": gradguard.never("target_*")})
    assert_says(message(caught), "`target_*`", "matches no model", "`critic`, `generator`")


def test_a_pattern_over_parameter_names_that_matches_nothing_lists_the_names() -> None:
    """A model given as a pattern has parameters, or the message shows what names look like."""
    models = {**pair().models, "adapters": "generator.*lora*"}
    with pytest.raises(ValueError) as caught:
        gradguard.Guard(models, POLICY)
    assert_says(message(caught), "`adapters`", "generator.*lora*", "`critic.0.weight`", "...")


def by_block(guard: gradguard.Guard, _: Tensor) -> None:
    """Name a loss by a block."""
    with guard.loss("critik_loss"):
        pass


def by_keyword(guard: gradguard.Guard, loss: Tensor) -> None:
    """Name a loss by tensor, as a keyword."""
    guard.watch(critik_loss=loss)


def by_mapping(guard: gradguard.Guard, loss: Tensor) -> None:
    """Name a loss by tensor, in a mapping."""
    guard.watch({"critik_loss": loss})


def by_backward(guard: gradguard.Guard, loss: Tensor) -> None:
    """Name a loss at its backward."""
    guard.backward(loss, "critik_loss")


@pytest.mark.parametrize("name", [by_block, by_keyword, by_mapping, by_backward])
def test_a_loss_that_the_policy_does_not_know_is_told_what_it_knows(
    name: Callable[[gradguard.Guard, Tensor], object],
) -> None:
    """The message suggests the likely loss and lists all, and no gradient is written."""
    scene = pair()
    guard = gradguard.Guard(scene.models, POLICY)
    with guard, pytest.raises(gradguard.PolicyError) as caught:
        name(guard, scene.critic(scene.real).mean())
    assert_says(
        message(caught),
        "`critik_loss`",
        "did you mean `critic_loss`?",
        "`critic_loss`, `generator_loss`",
    )
    assert scene.gradients() == [None] * len(scene.gradients())


def unnamed(scene: Scene) -> None:
    """Run something backward that no policy speaks of."""
    surprise = scene.critic(scene.real).mean()
    surprise.backward()


def test_an_unnamed_backward_in_a_strict_guard_is_an_error_before_it_writes() -> None:
    """The message names the expression, what the policy knows and how to name a loss."""
    scene = pair()
    with (
        pytest.raises(gradguard.PolicyError) as caught,
        gradguard.Guard(scene.models, POLICY, strict=True),
    ):
        unnamed(scene)
    assert_says(message(caught), "`surprise`", "`critic_loss`, `generator_loss`", "guard.loss(")
    assert scene.gradients() == [None] * len(scene.gradients())


def test_an_unnamed_backward_otherwise_runs_with_one_warning() -> None:
    """It is let through; the warning comes once, at the program's own line."""
    bare, scene = pair(), pair()
    unnamed(bare)
    unnamed(bare)
    guard = gradguard.Guard(scene.models, POLICY)
    with pytest.warns(gradguard.IsolationWarning) as caught, guard:
        unnamed(scene)
        unnamed(scene)
    [warning] = caught
    assert_says(str(warning.message), "`surprise`", "`critic_loss`, `generator_loss`")
    assert warning.filename == __file__
    assert guard.findings == []
    assert same(bare.gradients(), scene.gradients())


@pytest.mark.parametrize(
    "compute",
    [
        lambda scene: scene.critic(scene.real).mean().detach(),
        lambda _: torch.tensor(1.0),
    ],
    ids=["detached", "made"],
)
def test_a_loss_without_graph_is_said_to_have_none(compute: Callable[[Scene], Tensor]) -> None:
    """Each helper says so in its own words; autograd's error is left as it is."""
    scene = pair()
    lost = compute(scene)
    guard = gradguard.Guard(scene.models, POLICY)
    for call in (
        lambda: gradguard.backward(lost, into=scene.critic),
        lambda: gradguard.assert_isolated(lost, only=scene.critic),
        lambda: guard.backward(lost, "critic_loss"),
    ):
        with pytest.raises(RuntimeError) as caught:
            call()
        assert_says(message(caught), "has no graph", "no_grad", "detached")
    with pytest.raises(RuntimeError) as plain:
        lost.backward()
    with guard, guard.loss("critic_loss"), pytest.raises(RuntimeError) as caught:
        lost.backward()
    assert caught.value.args == plain.value.args
    matrix = gradguard.flow({"loss": lost}, scene.models)
    assert matrix["loss", "critic"] is gradguard.Reach.NONE


def test_a_model_without_parameters_is_an_error_by_name() -> None:
    """There is nothing to train or to guard in it."""
    empty: list[Any] = [nn.ReLU(), [], nn.ModuleList()]
    for model in empty:
        with pytest.raises(ValueError) as caught:
            gradguard.Guard({"critic": nn.Linear(2, 1), "empty": model}, {"loss": "critic"})
        assert_says(message(caught), "`empty`", "no parameters")


@pytest.mark.parametrize("model", [3, None, object(), [1, 2], {"a": "b"}])
def test_a_model_that_is_none_is_told_what_a_model_is(model: object) -> None:
    """The message names the model, its type, and the forms that are accepted."""
    with pytest.raises(TypeError) as caught:
        gradguard.Guard({"critic": nn.Linear(2, 1), "odd": model}, {"loss": "critic"})
    assert_says(message(caught), "`odd`", "nn.Module", "pattern")


def test_a_tensor_that_was_computed_is_no_model() -> None:
    """Only leaves receive gradient."""
    computed = nn.Linear(2, 1).weight * 2
    with pytest.raises(TypeError) as caught:
        gradguard.Guard({"weights": [computed]}, {"loss": "weights"})
    assert_says(message(caught), "`weights`", "leaves")


@pytest.mark.parametrize("models", [{}, None, [nn.Linear(2, 1)], nn.Linear(2, 1)])
def test_models_that_have_no_names_are_an_error_with_an_example(models: Any) -> None:
    """Models are given by name."""
    loss = nn.Linear(2, 1).weight.sum()
    for call in (
        lambda: gradguard.Guard(models, {"loss": "critic"}),
        lambda: gradguard.flow({"loss": loss}, models),
    ):
        with pytest.raises(ValueError) as caught:
            call()
        assert_says(message(caught), "models is a mapping", '{"critic": critic}')


@pytest.mark.parametrize("losses", [{}, None, torch.tensor(1.0), [torch.tensor(1.0)]])
def test_losses_that_have_no_names_are_an_error_with_an_example(losses: Any) -> None:
    """Losses are given by name, as a matrix has to call them something."""
    with pytest.raises(ValueError) as caught:
        gradguard.flow(losses, pair().models)
    assert_says(message(caught), "losses is a mapping", '{"critic_loss": loss}')


def test_a_model_that_is_only_named_says_to_give_the_module() -> None:
    """Text is a pattern over the names inside other models, which these calls have not."""
    scene = pair()
    loss = scene.critic(scene.real).mean()
    calls: list[Callable[[], object]] = [
        lambda: gradguard.only("critic").__enter__(),
        lambda: gradguard.frozen("critic"),
        lambda: gradguard.backward(loss, into="critic"),
        lambda: gradguard.assert_isolated(loss, only="critic"),
    ]
    for call in calls:
        with pytest.raises(ValueError) as caught:
            call()
        assert_says(message(caught), "pattern", "give the module itself")


@pytest.mark.parametrize("value", ["rise", "RAISE", "", None, 3])
def test_a_wrong_on_violation_lists_the_three_that_exist(value: Any) -> None:
    """The message quotes what was given."""
    with pytest.raises(ValueError) as caught:
        gradguard.Guard(pair().models, POLICY, on_violation=value)
    assert_says(message(caught), repr(value), "'raise'", "'warn'", "'record'")


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", None, True])
def test_a_wrong_every_is_told_what_it_counts(value: Any) -> None:
    """``every`` is a whole number from 1."""
    with pytest.raises(ValueError) as caught:
        gradguard.Guard(pair().models, POLICY, every=value)
    assert_says(message(caught), f"every={value!r}", "whole number from 1")


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: gradguard.must("critic") | gradguard.never("critic"), ["`critic`", "`never`"]),
        (lambda: {"must": ["critic"], "never": ["critic"]}, ["`loss`", "`critic`", "`never`"]),
        (lambda: {"only": ["critic"], "never": ["crit*"]}, ["`loss`", "`critic`", "forbids"]),
        (lambda: {"mut": ["critic"]}, ["`loss`", "'mut'", "did you mean `must`?"]),
        (dict, ["`loss`", "empty"]),
        (lambda: 3, ["`loss`", "int"]),
        (lambda: ["critic", 3], ["`loss`", "3", "text"]),
        (lambda: {"must": [""]}, ["`loss`", "''"]),
        (lambda: nn.Linear(2, 1), ["`loss`", "Linear", "text"]),
    ],
)
def test_a_rule_that_contradicts_itself_or_cannot_be_read_says_where(
    make: Callable[[], Any], parts: list[str]
) -> None:
    """The message names the loss and what is wrong with its rule."""
    with pytest.raises(gradguard.PolicyError) as caught:
        gradguard.Guard(pair().models, {"loss": make()})
    assert_says(message(caught), *parts)


@pytest.mark.parametrize("policy", [{}, 3, ["critic"], None, {3: "critic"}, {"": "critic"}])
def test_a_policy_that_is_none_is_an_error_with_an_example(policy: Any) -> None:
    """A policy is a mapping of names of losses to rules."""
    with pytest.raises(gradguard.PolicyError) as caught:
        gradguard.Guard(pair().models, policy)
    assert "polic" in message(caught)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[policy\n", ["cannot read a policy", "policy.toml", "line 1"]),
        ("critic_loss = 'critic'\n", ["policy.toml", "no [policy] table"]),
        ("policy = 3\n", ["policy.toml", "no [policy] table"]),
        ("[policy]\n", ["empty"]),
        ("[policy]\ncritic_loss = 3\n", ["`critic_loss`", "int"]),
        ("[policy]\ncritic_loss = {mst = 'critic'}\n", ["`critic_loss`", "did you mean `must`?"]),
        ("[policy]\ncritic_loss = 'critik'\n", ["`critik`", "did you mean `critic`?"]),
    ],
)
def test_a_policy_file_that_cannot_be_used_says_why(
    tmp_path: Path, text: str, parts: list[str]
) -> None:
    """Errors in TOML are errors of the policy, with the file or the entry named."""
    path = tmp_path / "policy.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(gradguard.PolicyError) as caught:
        gradguard.Guard(pair().models, path)
    assert_says(message(caught), *parts)


def test_a_policy_file_that_is_missing_or_no_text_says_so(tmp_path: Path) -> None:
    """The path is in the message."""
    for name, content in (("missing.toml", None), ("binary.toml", b"\xff\xfe")):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(gradguard.PolicyError) as caught:
            gradguard.Guard(pair().models, str(tmp_path / name))
        assert_says(message(caught), "cannot read a policy", name)


def frozen_critic(scene: Scene) -> nn.Module:
    """Return the critic, frozen."""
    model = scene.critic.requires_grad_(False)
    assert isinstance(model, nn.Module)
    return model


def test_backward_into_a_model_that_is_not_reached_writes_nothing() -> None:
    """GG301 comes before anything is written, and the graph is still usable."""
    scene = pair()
    loss = scene.critic(scene.real).mean()
    with pytest.raises(gradguard.IsolationError) as caught:
        gradguard.backward(loss, into=scene.generator)
    [finding] = caught.value.findings
    assert finding.code == "GG301"
    assert "does not reach" in finding.message
    assert finding.filename == __file__
    assert scene.gradients() == [None] * len(scene.gradients())
    gradguard.backward(loss, into=scene.critic)


def test_backward_into_a_frozen_model_is_an_error_before_it_writes() -> None:
    """Nothing in it requires gradient, and the message says so."""
    scene = pair()
    loss = scene.critic(scene.generator(scene.z)).mean()
    with pytest.raises(ValueError) as caught:
        gradguard.backward(loss, into=frozen_critic(scene))
    assert_says(message(caught), "`into`", "frozen")
    assert scene.gradients() == [None] * len(scene.gradients())


def test_backward_leaves_frozen_parameters_out() -> None:
    """The trainable part of a half-frozen model receives the gradient it would have."""
    bare, scene = pair(), pair()
    for each in (bare, scene):
        each.generator[0].requires_grad_(False)
    bare.critic(bare.generator(bare.z)).mean().backward()
    gradguard.backward(scene.critic(scene.generator(scene.z)).mean(), into=scene.generator)
    assert same(
        [p.grad for p in bare.generator.parameters()],
        [p.grad for p in scene.generator.parameters()],
    )
    assert all(p.grad is None for p in scene.critic.parameters())


def hidden_loss(scene: Scene) -> Tensor:
    """Return a loss on whose way a reentrant checkpoint lies."""
    fake = scene.generator(scene.z)
    score = checkpoint(scene.critic, fake, use_reentrant=True)
    assert isinstance(score, Tensor)
    return score.mean()


def test_backward_through_a_reentrant_checkpoint_is_an_error_before_it_writes() -> None:
    """Autograd would leave ``.grad`` None in silence; the message says what to write instead."""
    scene = pair()
    guard = gradguard.Guard(scene.models, POLICY)
    for into in (scene.critic, scene.generator, [scene.critic, scene.generator]):
        with pytest.raises(RuntimeError) as caught:
            gradguard.backward(hidden_loss(scene), into=into)
        assert_says(message(caught), "reentrant checkpoint", "use_reentrant=False")
    with guard, pytest.raises(RuntimeError) as caught:
        guard.backward(hidden_loss(scene), "generator_loss")
    assert_says(message(caught), "reentrant checkpoint", "generator_loss", "use_reentrant=False")
    assert scene.gradients() == [None] * len(scene.gradients())


def test_guard_backward_that_reaches_nothing_allowed_writes_nothing() -> None:
    """The finding names the loss and what it may train."""
    scene = pair()
    guard = gradguard.Guard(scene.models, POLICY)
    loss = scene.critic(scene.real).mean()
    with guard, pytest.raises(gradguard.IsolationError) as caught:
        guard.backward(loss, "generator_loss")
    [finding] = caught.value.findings
    assert finding.code == "GG301"
    assert_says(finding.message, "generator_loss", "does not reach")
    assert scene.gradients() == [None] * len(scene.gradients())


def test_guard_backward_into_frozen_models_writes_nothing() -> None:
    """What is frozen is not reached."""
    scene = pair()
    scene.generator.requires_grad_(False)
    guard = gradguard.Guard(scene.models, POLICY)
    loss = -scene.critic(scene.generator(scene.z)).mean()
    with guard, pytest.raises(gradguard.IsolationError):
        guard.backward(loss, "generator_loss")
    assert scene.gradients() == [None] * len(scene.gradients())


def test_what_is_no_tensor_is_named_with_its_type() -> None:
    """Every helper that takes a loss says what it was given."""
    scene = pair()
    guard = gradguard.Guard(scene.models, POLICY)
    odd: Any = 3.5
    calls: list[Callable[[], object]] = [
        lambda: gradguard.backward(odd, into=scene.critic),
        lambda: gradguard.assert_isolated(odd, only=scene.critic),
        lambda: gradguard.flow({"loss": odd}, scene.models),
        lambda: guard.watch(critic_loss=odd),
        lambda: guard.backward(odd, "critic_loss"),
    ]
    for call in calls:
        with pytest.raises(TypeError) as caught:
            call()
        assert_says(message(caught), "float", "not a tensor")


def test_blocks_without_a_model_say_what_to_write() -> None:
    """``only()`` and ``frozen()`` need at least one model, and say so at the call."""
    for block, name in ((gradguard.only, "only"), (gradguard.frozen, "frozen")):
        with pytest.raises(ValueError) as caught:
            block()
        assert_says(message(caught), f"gradguard.{name}(critic)")


def test_a_matrix_asked_for_what_it_has_not_says_what_it_has() -> None:
    """An unknown loss or model is a KeyError that lists the known ones."""
    scene = pair()
    matrix = gradguard.flow({"loss": scene.critic(scene.real).mean()}, scene.models)
    with pytest.raises(KeyError, match="the losses are: loss"):
        matrix["los", "critic"]
    with pytest.raises(KeyError, match="the models are: critic, generator"):
        matrix["loss", "critik"]
    with pytest.raises(gradguard.PolicyError, match="did you mean `critic`"):
        matrix.check({"loss": "critik"})

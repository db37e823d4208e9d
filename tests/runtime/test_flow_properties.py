"""On random multi-model programs, flow and guard agree with what autograd computes."""

from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings, strategies as st
from random_answers import (
    gradients,
    passes_through,
    reach,
    reaches,
    recorded_calls,
    run,
    trainable,
)
from random_programs import Program, build, interpret, programs
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import gradguard
from gradguard import Reach

thorough = settings(deadline=None, max_examples=300)
brief = settings(deadline=None, max_examples=100)


@thorough
@given(programs())
def test_flow_reaches_exactly_the_models_that_autograd_sends_a_gradient_to(
    program: Program,
) -> None:
    """REACHED if and only if the gradient of some trainable parameter is not None."""
    made = run(program)
    assume(made is not None)
    assert made is not None
    models, losses = made
    matrix = gradguard.flow(losses, models)
    found = {(loss, model): matrix[loss, model] for loss in losses for model in models}
    assert found == reaches(losses, models, numeric=False)


@thorough
@given(programs())
def test_numeric_flow_tells_zeros_from_gradients_exactly_as_autograd_does(
    program: Program,
) -> None:
    """ZERO if and only if gradients arrive and all are zero; NONE if and only if none arrives."""
    made = run(program)
    assume(made is not None)
    assert made is not None
    models, losses = made
    matrix = gradguard.flow(losses, models, numeric=True)
    found = {(loss, model): matrix[loss, model] for loss in losses for model in models}
    assert found == reaches(losses, models, numeric=True)


@brief
@given(programs(), st.booleans())
def test_order_of_losses_and_models_does_not_change_the_flow(
    program: Program, numeric: bool
) -> None:
    """Every entry of the matrix is the same when both mappings are given backwards."""
    made = run(program)
    assume(made is not None)
    assert made is not None
    models, losses = made
    forwards = gradguard.flow(losses, models, numeric=numeric)
    backwards = gradguard.flow(
        dict(reversed(losses.items())), dict(reversed(models.items())), numeric=numeric
    )
    for loss in losses:
        for model in models:
            assert forwards[loss, model] == backwards[loss, model]


def state_of(models: dict[str, nn.Sequential]) -> dict[str, Any]:
    """Return everything about the models that an inspection might leave changed."""
    state: dict[str, Any] = {}
    for name, model in models.items():
        for path, module in model.named_modules():
            state[f"{name}/{path}"] = {
                key: dict(value) if isinstance(value, dict) else value
                for key, value in vars(module).items()
            }
        for path, parameter in model.named_parameters():
            state[f"{name}.{path}"] = (
                id(parameter),
                parameter.grad is None,
                parameter.requires_grad,
                parameter._version,
                dict(parameter._backward_hooks or {}),
                dict(getattr(parameter, "_post_accumulate_grad_hooks", None) or {}),
                dict(vars(parameter)),
            )
    return state


@brief
@given(programs(), st.booleans())
def test_flow_leaves_no_gradient_hook_or_flag_behind(program: Program, numeric: bool) -> None:
    """Models are as they were, the random state too, and the losses can still be backwarded."""
    made = run(program)
    assume(made is not None)
    assert made is not None
    models, losses = made
    before, random_state = state_of(models), torch.get_rng_state()
    expected = {name: gradients(loss, models["m0"]) for name, loss in losses.items()}
    gradguard.flow(losses, models, numeric=numeric)
    assert state_of(models) == before
    assert torch.equal(torch.get_rng_state(), random_state)
    for name, loss in losses.items():
        for gradient, wanted in zip(gradients(loss, models["m0"]), expected[name], strict=True):
            assert (gradient is None) == (wanted is None)
            assert gradient is None or wanted is None or torch.equal(gradient, wanted)


@brief
@given(programs())
def test_recording_guard_sees_the_reach_of_the_real_backward(program: Program) -> None:
    """A guard around forward and backward reports, pair by pair, what autograd proves."""
    made = run(program)
    assume(made is not None)
    assert made is not None
    names = list(made[0])
    expected = reaches(made[1], made[0], numeric=False)
    torch.manual_seed(0)
    models = build(program.nets)
    policy = {name: {"may": names} for name in made[1]}
    guard = gradguard.Guard(models, policy, on_violation="record")
    with guard:
        losses = interpret(program, models)
        backwarded = [name for name, loss in losses.items() if loss.requires_grad]
        for name in backwarded:
            with guard.loss(name):
                torch.autograd.backward(losses[name], retain_graph=True)
    for name in backwarded:
        for model in names:
            reached = guard.flow[name, model] is not Reach.NONE
            assert reached == (expected[name, model] is Reach.REACHED), (name, model)


def rules(models: int) -> st.SearchStrategy[dict[str, list[str]]]:
    """Draw a rule that lets a loss train one model only, or never some of them."""
    name = st.integers(0, models - 1).map(lambda number: f"m{number}")
    return st.builds(lambda one: {"only": [one]}, name) | st.builds(
        lambda some: {"never": some}, st.lists(name, min_size=1, max_size=2, unique=True)
    )


@brief
@given(programs(calls_only=True), st.data())
def test_guard_calls_a_dead_end_what_has_nothing_allowed_below_its_calls(
    program: Program, choice: st.DataObject
) -> None:
    """Each forbidden pair is a leak, a spill or unreached, as autograd says call by call."""
    made = run(program)
    assume(made is not None)
    assert made is not None
    torch.manual_seed(0)
    models = build(program.nets)
    policy = {name: choice.draw(rules(len(models)), label=name) for name in made[1]}
    guard = gradguard.Guard(models, policy, on_violation="record")
    with guard, recorded_calls(models) as edges:
        losses = interpret(program, models)
        backwarded = [name for name, loss in losses.items() if loss.requires_grad]
        for name in backwarded:
            with guard.loss(name):
                torch.autograd.backward(losses[name], retain_graph=True)
    # Whether a dead end is also a shadow model is another question than whether it is one.
    found = {
        (f.loss, f.model): "GG101" if f.code == "GG104" else f.code for f in guard.ledger.findings
    }
    for name in backwarded:
        loss, rule = losses[name], policy[name]
        free = rule.get("only", [model for model in models if model not in rule.get("never", [])])
        allowed = [parameter for model in free for parameter in trainable(models[model])]
        reached = {model: reach(loss, models[model], numeric=True) for model in models}
        missed = [
            m for m in rule.get("only", []) if trainable(models[m]) and reached[m] is Reach.NONE
        ]
        for model in models:
            if Reach.ZERO in (reached[model], *(reached[m] for m in rule.get("only", []))):
                continue
            wanted = None
            if model in missed:
                wanted = "GG301"
            elif model not in free and reached[model] is Reach.REACHED and not missed:
                wanted = "GG102" if passes_through(loss, edges[model], allowed) else "GG101"
            assert found.get((name, model)) == wanted, (name, model, rule)


class _Opaque(torch.autograd.Function):
    """A function whose backward decides at run time what it sends on."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sends: str) -> Tensor:
        ctx.sends = sends
        return x * 2

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor) -> tuple[Tensor | None, None]:
        answers = {"nothing": None, "zeros": incoming[0] * 0, "gradient": incoming[0] * 2}
        return answers[ctx.sends], None


def opaque(x: Tensor, sends: str) -> Tensor:
    """Call the opaque function."""
    result: Tensor = _Opaque.apply(x, sends)  # type: ignore[no-untyped-call]
    return result


@pytest.mark.parametrize(
    ("sends", "proved"),
    [("nothing", Reach.NONE), ("zeros", Reach.ZERO), ("gradient", Reach.REACHED)],
)
def test_reach_behind_a_custom_function_is_unknown_until_it_is_computed(
    sends: str, proved: Reach
) -> None:
    """The graph alone cannot say what a custom backward sends on; its gradients can."""
    model = nn.Linear(2, 2)
    loss = opaque(model(torch.randn(3, 2)), sends).sum()
    assert gradguard.flow({"loss": loss}, {"model": model})["loss", "model"] is Reach.UNKNOWN
    matrix = gradguard.flow({"loss": loss}, {"model": model}, numeric=True)
    assert matrix["loss", "model"] is proved


def test_one_path_free_of_custom_functions_makes_the_reach_certain() -> None:
    """A model reached both behind a custom function and beside it is reached."""
    model = nn.Linear(2, 2)
    output = model(torch.randn(3, 2))
    loss = (opaque(output, "nothing") + output).sum()
    assert gradguard.flow({"loss": loss}, {"model": model})["loss", "model"] is Reach.REACHED


def test_model_in_front_of_a_custom_function_is_certain_and_the_one_behind_it_unknown() -> None:
    """Only what lies below the opaque node is unknown."""
    behind, front, beside = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
    loss = front(opaque(behind(torch.randn(3, 2)), "nothing")).sum()
    models = {"behind": behind, "front": front, "beside": beside}
    matrix = gradguard.flow({"loss": loss}, models)
    assert matrix["loss", "behind"] is Reach.UNKNOWN
    assert matrix["loss", "front"] is Reach.REACHED
    assert matrix["loss", "beside"] is Reach.NONE


def test_model_inside_a_reentrant_checkpoint_is_unknown_whatever_is_asked() -> None:
    """Neither the graph nor `autograd.grad` sees into it; the model after it is certain."""
    inside, after = nn.Linear(2, 2), nn.Linear(2, 2)
    x = torch.randn(3, 2, requires_grad=True)
    loss = after(checkpoint(inside, x, use_reentrant=True)).sum()
    for numeric in (False, True):
        matrix = gradguard.flow({"loss": loss}, {"inside": inside, "after": after}, numeric=numeric)
        assert matrix["loss", "inside"] is Reach.UNKNOWN
        assert matrix["loss", "after"] is Reach.REACHED


def test_model_inside_a_checkpoint_that_is_not_reentrant_is_certain() -> None:
    """Its nodes are ordinary nodes."""
    inside, beside = nn.Linear(2, 2), nn.Linear(2, 2)
    loss = checkpoint(inside, torch.randn(3, 2), use_reentrant=False).sum()
    matrix = gradguard.flow({"loss": loss}, {"inside": inside, "beside": beside})
    assert matrix["loss", "inside"] is Reach.REACHED
    assert matrix["loss", "beside"] is Reach.NONE


def test_models_inside_a_compiled_region_are_unknown_until_they_are_computed() -> None:
    """A compiled region is one node that leads to all of its inputs, used or not."""
    trained, detached = nn.Linear(2, 2), nn.Linear(2, 2)

    @torch.compile(backend="aot_eager")
    def region(x: Tensor) -> Tensor:
        result: Tensor = torch.tanh(trained(x)) + detached(x).detach()
        return result

    loss = region(torch.randn(3, 2)).square().sum()
    models = {"trained": trained, "detached": detached}
    assert gradguard.flow({"loss": loss}, models)["loss", "trained"] is Reach.UNKNOWN
    matrix = gradguard.flow({"loss": loss}, models, numeric=True)
    assert matrix["loss", "trained"] is Reach.REACHED
    assert matrix["loss", "detached"] in {Reach.NONE, Reach.ZERO}


def test_loss_that_is_a_parameter_reaches_it_and_nothing_else() -> None:
    """A graph of one leaf is a graph."""
    weight, model = nn.Parameter(torch.tensor(1.0)), nn.Linear(2, 2)
    for numeric in (False, True):
        matrix = gradguard.flow(
            {"loss": weight}, {"weight": weight, "model": model}, numeric=numeric
        )
        assert matrix["loss", "weight"] is Reach.REACHED
        assert matrix["loss", "model"] is Reach.NONE


def test_parameter_frozen_after_the_forward_is_not_reached() -> None:
    """The graph still holds the leaf, but nothing would be accumulated into it."""
    frozen, trained = nn.Linear(2, 2), nn.Linear(2, 2)
    loss = trained(frozen(torch.randn(3, 2))).sum()
    frozen.requires_grad_(False)
    for numeric in (False, True):
        matrix = gradguard.flow(
            {"loss": loss}, {"frozen": frozen, "trained": trained}, numeric=numeric
        )
        assert matrix["loss", "frozen"] is Reach.NONE
        assert matrix["loss", "trained"] is Reach.REACHED

"""What a newcomer may take for a model, a loss or a name: each is told what to write instead."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gradguard


def critic() -> nn.Linear:
    """Make a model."""
    return nn.Linear(2, 1)


def loss_of(model: nn.Module) -> Tensor:
    """Make a loss of a model alone."""
    return torch.as_tensor(model(torch.ones(3, 2)).mean())


def used_up() -> Any:
    """Make an iterator over parameters that has been walked already."""
    parameters = critic().parameters()
    list(parameters)
    return parameters


MISTAKES: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: "critic", ValueError, "is text, a pattern over.*; give the module itself"),
    (lambda: nn.Linear, TypeError, "is the class Linear, not an instance of it"),
    (
        lambda: torch.optim.SGD(critic().parameters(), 0.1),
        TypeError,
        "is the optimizer SGD: give the module whose parameters it holds",
    ),
    (lambda: None, TypeError, "is None; a model is an nn.Module"),
    (lambda: 3, TypeError, "is a int; a model is an nn.Module"),
    (list, ValueError, "has no parameters; there is nothing to train"),
    (used_up, ValueError, "it is an iterator, and used up; give the module, or a list"),
    (lambda: [[critic()]], TypeError, "holds a list: put all modules and parameters into one list"),
    (lambda: [critic(), None], TypeError, "holds None; a model is an nn.Module"),
    (
        lambda: critic().state_dict(),
        TypeError,
        "holds no parameter, only values: give the module",
    ),
]


@pytest.mark.parametrize(("model", "kind", "told"), MISTAKES)
@pytest.mark.parametrize("door", ["only", "frozen", "Guard", "backward", "assert_isolated", "flow"])
def test_what_is_no_model_is_told_so_at_every_door(
    door: str, model: Callable[[], Any], kind: type[Exception], told: str
) -> None:
    """The same words wherever it is passed, and nothing is left installed."""
    taps = torch.autograd._engine_run_backward, nn.Module.__call__  # type: ignore[attr-defined]
    given = model()
    loss = loss_of(critic())
    with pytest.raises(kind, match=told):
        match door:
            case "only":
                with gradguard.only(given):
                    raise AssertionError("it was let in")
            case "frozen":
                with gradguard.frozen(given):
                    raise AssertionError("it was let in")
            case "Guard":
                gradguard.Guard({"critic": given}, {"critic_loss": "critic"})
            case "backward":
                gradguard.backward(loss, into=given)
            case "assert_isolated":
                gradguard.assert_isolated(loss, only=given)
            case _:
                gradguard.flow({"critic_loss": loss}, {"critic": given})
    now = torch.autograd._engine_run_backward, nn.Module.__call__  # type: ignore[attr-defined]
    assert now == taps


def test_an_iterator_over_parameters_serves_a_block_as_often_as_it_is_entered() -> None:
    """What can be walked once only is walked when the block is made."""
    model = critic()
    block = gradguard.only(model.parameters())
    for _ in range(2):
        with block:
            loss_of(model).backward()


def test_names_and_tensors_that_change_places_are_told_apart() -> None:
    """A name is text and a loss is a tensor; what was given is named by its type."""
    model = critic()
    guard = gradguard.Guard({"critic": model}, {"critic_loss": "critic"})
    wrong: Any = loss_of(model)
    with pytest.raises(TypeError, match=r"named by text, not by a Tensor.*one of: 'critic_loss'"):
        guard.backward("critic_loss", wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="named by text, not by a Tensor"), guard.loss(wrong):
        raise AssertionError("it was let in")
    for given in (wrong, [wrong]):
        with pytest.raises(TypeError, match=r"name each, as in `guard\.watch"):
            guard.watch(given)
    with pytest.raises(RuntimeError, match=r"^`critic_loss` has no graph"):
        guard.backward(torch.ones(()), "critic_loss")


def test_rules_and_options_of_the_wrong_kind_say_what_is_right() -> None:
    """Rules name models by text; a flag is a flag; a step is what can be run."""
    for make in (gradguard.must, gradguard.may, gradguard.never):
        with pytest.raises(gradguard.PolicyError, match="got a Linear; models are named by text"):
            make(critic())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="strict='yes'; it is True or False"):
        gradguard.Guard({"a": critic()}, {"loss": "a"}, strict="yes")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="step is a NoneType; it is what runs one step"):
        gradguard.check_isolation(None, {"a": critic()}, {"loss": "a"})  # type: ignore[arg-type]


def test_a_loss_that_is_not_finite_is_judged_as_any_other() -> None:
    """NaN reaches what it reaches: the leak is found, the meant gradient is written."""
    model, other = critic(), nn.Linear(3, 2)
    models = {"critic": model, "other": other}
    guard = gradguard.Guard(models, {"critic_loss": "critic"}, on_violation="record")
    with guard:
        critic_loss = model(other(torch.ones(4, 3)).detach()).mean() * float("nan")
        critic_loss.backward()
        assert guard.findings == []
        critic_loss = model(other(torch.ones(4, 3))).mean() * float("nan")
        critic_loss.backward()
    assert [finding.code for finding in guard.findings] == ["GG101"]
    assert model.weight.grad is not None
    assert model.weight.grad.isnan().all()


def test_a_loss_that_is_no_scalar_is_refused_by_autograd_in_its_own_words() -> None:
    """And one that is given its gradient is judged."""
    model = critic()
    outputs = model(torch.ones(3, 2))
    with (
        gradguard.Guard({"critic": model}, {"outputs": "critic"}),
        pytest.raises(RuntimeError, match="only for scalar outputs"),
    ):
        outputs.backward()
    with gradguard.only(model):
        outputs.backward(torch.ones(3, 1))
    gradguard.backward(model(torch.ones(3, 2)), into=model, gradient=torch.ones(3, 1))
    assert model.weight.grad is not None


def test_a_loss_on_another_thread_raises_in_that_thread() -> None:
    """Whoever runs the backward is told, and the thread that holds the guard is not."""
    model, other = critic(), nn.Linear(3, 2)
    caught: list[BaseException] = []

    def work() -> None:
        critic_loss = model(other(torch.ones(4, 3))).mean()
        try:
            critic_loss.backward()
        except gradguard.IsolationError as error:
            caught.append(error)

    with gradguard.Guard({"critic": model, "other": other}, {"critic_loss": "critic"}):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert "GG101 `critic_loss` reaches `other`" in str(caught[0])
    assert other.weight.grad is None

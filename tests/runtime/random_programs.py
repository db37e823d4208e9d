"""Random multi-model programs as data, a strategy that draws them, and an interpreter.

A program is a list of operations on numbered values, all of one shape. Every operation appends one
value, so an operation may name any value before it; an in-place operation appends the value that it
changed, under a second number.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

SHAPE = (2, 4)


@dataclass(frozen=True)
class Net:
    """A model: how many layers it has, what is frozen, whose first weight it shares."""

    layers: int
    bias: bool
    frozen: str
    tied_to: int | None


@dataclass(frozen=True)
class Call:
    """The model is called; `quiet` says under `no_grad`."""

    model: int
    on: int
    quiet: bool


@dataclass(frozen=True)
class Use:
    """The model's first weight multiplies a value without a call."""

    model: int
    on: int


@dataclass(frozen=True)
class Detach:
    """The value, cut from its history, in memory of its own."""

    of: int


@dataclass(frozen=True)
class Combine:
    """Two values make one: added (a residual), multiplied, joined and split, or stacked."""

    how: str
    left: int
    right: int


@dataclass(frozen=True)
class View:
    """The value seen through views only."""

    how: str
    of: int


@dataclass(frozen=True)
class InPlace:
    """A value is changed in place: a copy of it, a view of a copy, or itself."""

    how: str
    target: int
    source: int


@dataclass(frozen=True)
class Scale:
    """The value times a constant, which may be zero."""

    by: float
    of: int


Operation = Call | Use | Detach | Combine | View | InPlace | Scale


@dataclass(frozen=True)
class Term:
    """One term of a loss: the mean of a value, weighted."""

    value: int
    weight: float


@dataclass(frozen=True)
class Program:
    """Models, operations and losses; each loss is a sum of terms."""

    nets: tuple[Net, ...]
    operations: tuple[Operation, ...]
    losses: tuple[tuple[Term, ...], ...]


def build(nets: tuple[Net, ...]) -> dict[str, nn.Sequential]:
    """Return the models, named m0, m1 and so on, with weights that a seed decides."""
    models: dict[str, nn.Sequential] = {}
    for number, net in enumerate(nets):
        layers: list[nn.Module] = [nn.Linear(4, 4, bias=net.bias)]
        for _ in range(net.layers - 1):
            layers += [nn.Tanh(), nn.Linear(4, 4, bias=net.bias)]
        model = nn.Sequential(*layers)
        if net.tied_to is not None:
            first_layer(model).weight = first_layer(models[f"m{net.tied_to}"]).weight
        models[f"m{number}"] = model
    for net, model in zip(nets, models.values(), strict=True):
        if net.frozen == "all":
            model.requires_grad_(False)
        elif net.frozen == "first":
            first_layer(model).weight.requires_grad_(False)
    return models


def first_layer(model: nn.Sequential) -> nn.Linear:
    """Return the layer whose weight may be tied, frozen or used without a call."""
    layer = model[0]
    assert isinstance(layer, nn.Linear)
    return layer


def interpret(program: Program, models: dict[str, nn.Sequential]) -> dict[str, Tensor]:
    """Run the operations and return the losses, named l0, l1 and so on.

    Raises RuntimeError where autograd forbids an in-place operation.
    """
    values = [torch.randn(SHAPE)]
    for operation in program.operations:
        values.append(_apply(operation, values, models))
    return {
        f"l{number}": torch.stack([term.weight * values[term.value].mean() for term in terms]).sum()
        for number, terms in enumerate(program.losses)
    }


def _apply(operation: Operation, values: list[Tensor], models: dict[str, nn.Sequential]) -> Tensor:
    value: Tensor
    match operation:
        case Call(model, on, quiet):
            with torch.set_grad_enabled(not quiet):
                value = models[f"m{model}"](values[on])
        case Use(model, on):
            value = values[on] @ first_layer(models[f"m{model}"]).weight.mT
        case Detach(of):
            value = values[of].detach().clone()
        case Combine(how, left, right):
            value = _COMBINE[how](values[left], values[right])
        case View(how, of):
            value = _VIEW[how](values[of])
        case InPlace(how, target, source):
            value = _CHANGE[how](values[target], values[source])
        case Scale(by, of):
            value = by * values[of]
        case _:
            assert_never(operation)
    return value


def _change_view_of_copy(target: Tensor, source: Tensor) -> Tensor:
    copy = target.clone()
    copy[:, :2].add_(source[:, 2:])
    return copy


def _change_row_of_copy(target: Tensor, source: Tensor) -> Tensor:
    copy = target.clone()
    copy[0] = source[1]
    return copy


def _change_without_gradient(target: Tensor, source: Tensor) -> Tensor:
    with torch.no_grad():
        return target.add_(source)


_COMBINE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda left, right: left + right,
    "multiply": lambda left, right: torch.tanh(left) * torch.tanh(right),
    "left of cat": lambda left, right: torch.cat([left, right]).chunk(2)[0],
    "right of cat": lambda left, right: torch.cat([left, right]).chunk(2)[1],
    "sum of stack": lambda left, right: torch.stack([left, right]).sum(0),
    "right of stack": lambda left, right: torch.stack([left, right]).unbind()[1],
}
_VIEW: dict[str, Callable[[Tensor], Tensor]] = {
    "reshaped": lambda value: value.reshape(-1).view(SHAPE),
    "transposed": lambda value: value.t().flip(0).t(),
    "one row": lambda value: value[:1].expand(SHAPE),
}
_CHANGE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "copy": lambda target, source: target.clone().add_(source),
    "view of a copy": _change_view_of_copy,
    "overwritten copy": lambda target, source: target.clone().copy_(source),
    "row of a copy": _change_row_of_copy,
    "without gradient": _change_without_gradient,
    "itself": lambda target, source: target.add_(source),
}


@st.composite
def programs(draw: st.DrawFn, *, calls_only: bool = False) -> Program:
    """Draw a program of two to four models, up to ten operations and one to three losses.

    `calls_only`: models share no weight, are used by calls only, and nothing is multiplied by zero.
    """
    nets = tuple(_draw_net(draw, number, calls_only) for number in range(draw(st.integers(2, 4))))
    count = draw(st.integers(2, 10))
    operations = tuple(_draw_operation(draw, len(nets), n + 1, calls_only) for n in range(count))
    weights = [1.0, -1.0, 0.5] if calls_only else [1.0, -1.0, 0.5, 0.0]
    term = st.builds(Term, _recent(count + 1, 6), st.sampled_from(weights))
    loss = st.lists(term, min_size=1, max_size=3).map(tuple)
    losses = draw(st.lists(loss, min_size=1, max_size=3))
    return Program(nets, operations, tuple(losses))


def _recent(values: int, window: int) -> st.SearchStrategy[int]:
    """Draw the number of a value, one of the last few, so that most operations matter."""
    return st.integers(0, min(values, window) - 1).map(lambda back: values - 1 - back)


def _draw_net(draw: st.DrawFn, number: int, calls_only: bool) -> Net:
    untied = number == 0 or calls_only
    tied = st.none() if untied else st.none() | st.integers(0, number - 1)
    frozen = st.sampled_from(["nothing"] * 6 + ["first", "all"])
    return draw(st.builds(Net, st.integers(1, 2), st.booleans(), frozen, tied))


def _draw_operation(draw: st.DrawFn, models: int, values: int, calls_only: bool) -> Operation:
    model, value = st.integers(0, models - 1), _recent(values, 5)
    kinds = ["call"] * 8 + ["combine"] * 4 + ["detach", "view", "in place", "scale"]
    if not calls_only:
        kinds.append("use")
    factors = [2.0, -1.0] if calls_only else [2.0, -1.0, 0.0]
    operations: dict[str, st.SearchStrategy[Operation]] = {
        "call": st.builds(Call, model, value, st.sampled_from([False] * 7 + [True])),
        "combine": st.builds(Combine, st.sampled_from(list(_COMBINE)), value, value),
        "detach": st.builds(Detach, value),
        "view": st.builds(View, st.sampled_from(list(_VIEW)), value),
        "in place": st.builds(InPlace, st.sampled_from(list(_CHANGE)), value, value),
        "scale": st.builds(Scale, st.sampled_from(factors), value),
        "use": st.builds(Use, model, value),
    }
    return draw(operations[draw(st.sampled_from(kinds))])

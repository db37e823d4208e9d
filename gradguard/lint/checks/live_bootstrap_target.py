"""GG107: a regression target that is bootstrapped and carries gradient."""

from __future__ import annotations

from collections.abc import Iterator

from gradguard.core.findings import Finding
from gradguard.lint.checks._common import finding, operations
from gradguard.lint.story import Story
from gradguard.lint.values import Const, Data, Value

__all__ = ["check"]

_REGRESSIONS = frozenset({"mse_loss", "smooth_l1_loss", "huber_loss", "l1_loss"})
_SQUARES = frozenset({"pow", "square", "abs"})


def check(story: Story) -> Iterator[Finding]:
    """Look for regressions both sides of which carry gradient, one of them bootstrapped."""
    reported: set[str] = set()
    for event in story.backwards:
        name = story.losses[id(event)]
        for operation, inputs, _ in operations(event.loss):
            sides = _sides(operation, inputs)
            if sides is None or name in reported:
                continue
            for prediction, target in (sides, sides[::-1]):
                if not prediction.flow or not target.flow or not _bootstrapped(target):
                    continue
                if _same_output(prediction, target):
                    continue
                unit, arrival = next(iter(target.flow.items()))
                model = story.of_unit.get(unit)
                if model is None or not model.sure or not arrival.sure or unit not in event.flow:
                    continue
                reported.add(name)
                yield finding(
                    "GG107",
                    f"`{name}` trains `{model.name}` through its regression target",
                    event.site,
                    [
                        (arrival.made, f"output of `{model.name}`, carries gradient"),
                        (target.site, "the target is computed from it"),
                        (event.site, f"`{name}` reaches `{model.name}` through the target"),
                    ],
                    loss=name,
                    model=model.name,
                    help_text="compute the target under `torch.no_grad()`",
                )
                break


def _sides(operation: str, inputs: tuple[Value, ...]) -> tuple[Data, Data] | None:
    if operation in _REGRESSIONS and len(inputs) >= 2:
        pair: tuple[Value, ...] = inputs[:2]
    elif operation in _SQUARES and inputs and isinstance(inputs[0], Data):
        inner = _through(inputs[0])
        if inner.operands is None or inner.operands[0] != "sub":
            return None
        pair = inner.operands[1]
    else:
        return None
    if len(pair) == 2 and isinstance(pair[0], Data) and isinstance(pair[1], Data):
        return pair[0], pair[1]
    return None


def _same_output(prediction: Data, target: Data) -> bool:
    """Say whether both sides are made of one output, as where it is held to its own average."""
    return all(
        unit in prediction.flow and prediction.flow[unit].made == arrival.made
        for unit, arrival in target.flow.items()
    )


_SHAPES = frozenset({"reshape", "index", "either", "neg"})


def _through(value: Data) -> Data:
    """Look through what only changes a tensor's shape."""
    for _ in range(8):
        if value.operands is None or value.operands[0] not in _SHAPES:
            break
        inner = value.operands[1][0] if value.operands[1] else None
        if not isinstance(inner, Data):
            break
        value = inner
    return value


def _bootstrapped(value: Data) -> bool:
    """Say whether a value is a reward plus a discounted estimate that carries gradient."""
    value = _through(value)
    if value.operands is None or value.operands[0] != "add":
        return False
    fixed = [one for one in value.operands[1] if isinstance(one, Data) and not one.flow]
    live = [one for one in value.operands[1] if isinstance(one, Data) and one.flow]
    if not fixed or len(live) != 1:
        return False
    return _discounted(live[0])


def _discounted(value: Data) -> bool:
    value = _through(value)
    if value.operands is None or value.operands[0] != "mult":
        return False
    sides = value.operands[1]
    live = [one for one in sides if isinstance(one, Data) and one.flow]
    fixed = [
        one for one in sides if isinstance(one, Const) or (isinstance(one, Data) and not one.flow)
    ]
    return len(live) == 1 and len(fixed) == 1

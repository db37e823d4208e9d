"""GG106: stored data that still carries a graph, compared with what the same model makes now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gradguard.core.findings import Finding
from gradguard.lint.checks._common import finding, operations
from gradguard.lint.run import BackwardAt
from gradguard.lint.story import Story
from gradguard.lint.values import Data, Seq, Unit, Value

__all__ = ["check"]

_AGAINST = frozenset(
    {"sub", "div", "mse_loss", "smooth_l1_loss", "huber_loss", "l1_loss", "kl_div", "kl_divergence"}
)


def check(story: Story) -> Iterator[Finding]:
    """Look for operations that set what was stored against a fresh output of the same model."""
    reported: set[str] = set()
    for event in story.backwards:
        name = story.losses[id(event)]
        if name in reported:
            continue
        for operation, inputs, made in operations(event.loss):
            if operation not in _AGAINST or len(inputs) < 2:
                continue
            found = _live(story, event, inputs, made)
            if found is not None:
                reported.add(name)
                yield found
                break


def _live(story: Story, event: BackwardAt, inputs: tuple[Value, ...], made: Data) -> Finding | None:
    for old, new in (inputs[:2], inputs[1::-1]):
        if not isinstance(old, Data) or not isinstance(new, Data) or _stored(new):
            continue
        kept = _stored(old)
        unit = _both(kept, new, event) if kept is not None else None
        model = story.of_unit.get(unit) if unit is not None else None
        if kept is None or unit is None or model is None or not model.sure:
            continue
        name = story.losses[id(event)]
        return finding(
            "GG106",
            f"`{name}` trains `{model.name}` through stored data, which still carries its graph",
            event.site,
            [
                (kept.flow[unit].made, f"output of `{model.name}`, carries gradient"),
                (kept.site, "is computed from it and stored"),
                (made.site, f"is compared here with what `{model.name}` makes now"),
                (event.site, f"`{name}` reaches `{model.name}` both ways"),
            ],
            loss=name,
            model=model.name,
            help_text="store it with `.detach()`, or collect it under `torch.no_grad()`",
        )
    return None


def _both(kept: Data, new: Data, event: BackwardAt) -> Unit | None:
    """Return what a stored value and a new one both reach, by another call of the model each."""
    for unit, arrival in kept.flow.items():
        other = new.flow.get(unit)
        if other is None or unit not in event.flow or unit.bare or not arrival.sure:
            continue
        if (arrival.made, arrival.born) != (other.made, other.born):
            return unit
    return None


_SHAPES = frozenset({"reshape", "index", "cat", "stack", "either", "neg", "squeeze"})
_DEEP = 8


def _stored(value: Value, depth: int = _DEEP) -> Data | None:
    """Return what was stored of which a value is a batch, if it is one."""
    match value:
        case Data() if "stored" in value.tags and value.flow:
            return value
        case Data(operands=(operation, inputs)) if depth and operation in _SHAPES:
            inner: Iterable[Value] = inputs
        case Seq() if depth:
            inner = [*value.items, *([value.rest] if value.rest is not None else [])]
        case _:
            return None
    found = (_stored(one, depth - 1) for one in inner)
    return next((one for one in found if one is not None), None)

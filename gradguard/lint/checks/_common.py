"""What checks have in common: how a finding is made, and how operations are walked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gradguard.core.codes import code
from gradguard.core.findings import Confidence, Finding, TraceStep
from gradguard.lint.run import BackwardAt, ClearAt, StepAt
from gradguard.lint.story import Story, place
from gradguard.lint.values import Data, Optimizer, Seq, Site, Unit, Value

__all__ = ["Window", "finding", "operations", "root", "windows"]

Steps = Sequence[tuple[Site | None, str]]


def finding(
    number: str,
    message: str,
    site: Site | None,
    trace: Steps = (),
    *,
    loss: str | None = None,
    model: str | None = None,
    help_text: str | None = None,
    confidence: Confidence = Confidence.HIGH,
) -> Finding:
    """Make the finding of a check."""
    entry = code(number)
    steps = tuple(TraceStep(place(where), text) for where, text in trace if where is not None)
    return Finding(
        code=entry.code,
        name=entry.name,
        severity=entry.severity,
        message=message,
        place=place(site),
        loss=loss,
        model=model,
        trace=steps,
        help=help_text,
        confidence=confidence,
    )


class Window:
    """Backward passes and the steps that follow them before the next backward pass."""

    def __init__(self) -> None:
        """Open a window."""
        self.backwards: list[BackwardAt] = []
        self.steps: list[StepAt] = []
        self.left: dict[Unit, None] = {}


def windows(story: Story) -> Iterator[Window]:
    """Walk the windows of an execution; each knows what lay in ``.grad`` when it opened."""
    window = Window()
    lying: dict[Unit, None] = {}
    for event in story.run.events:
        match event:
            case BackwardAt():
                if window.steps:
                    yield window
                    window = Window()
                    window.left = dict(lying)
                window.backwards.append(event)
                lying.update(dict.fromkeys(event.flow))
            case StepAt():
                window.steps.append(event)
            case ClearAt():
                for unit in event.units:
                    lying.pop(unit, None)
            case _:
                continue
    if window.steps:
        yield window


_DEEPEST = 40
_MOST = 400


def operations(value: Value) -> Iterator[tuple[str, tuple[Value, ...], Data]]:
    """Walk the operations that a loss was computed by, outermost first; models are not entered."""
    seen: set[int] = set()
    queue: list[tuple[Value, int]] = [(value, 0)]
    while queue and len(seen) < _MOST:
        one, depth = queue.pop(0)
        if id(one) in seen or depth > _DEEPEST:
            continue
        seen.add(id(one))
        if isinstance(one, Seq):
            queue += [(item, depth + 1) for item in one.items]
            continue
        if not isinstance(one, Data) or one.operands is None:
            continue
        operation, inputs = one.operands
        if operation in ("layer", "cut", "grad", "attribute"):
            continue
        yield operation, inputs, one
        queue += [(item, depth + 1) for item in inputs]


_COMPARISONS = frozenset(
    [
        "mse_loss",
        "smooth_l1_loss",
        "huber_loss",
        "l1_loss",
        "cross_entropy",
        "nll_loss",
        "binary_cross_entropy",
        "binary_cross_entropy_with_logits",
        "sub",
    ]
)


def compared(operation: str, inputs: tuple[Value, ...]) -> Iterator[Unit]:
    """Walk the units whose own output an operation compares with data that is no constant."""
    if operation not in _COMPARISONS or len(inputs) < 2:
        return
    for side, other in (inputs[:2], inputs[1::-1]):
        if not isinstance(side, Data) or not isinstance(other, Data):
            continue
        if not other.flow and not other.cuts and "constant" not in other.tags:
            for unit, arrival in side.flow.items():
                if arrival.enters is None:
                    yield unit


def root(unit: Unit) -> object:
    """Return the outermost module that parameters belong to."""
    owner = unit.owner
    if owner is None:
        return unit
    while owner.parent is not None:
        owner = owner.parent
    return owner


def known(optimizer: Optimizer) -> bool:
    """Say whether everything that an optimizer holds is known."""
    return optimizer.complete and not optimizer.escaped

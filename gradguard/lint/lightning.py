"""Lightning's part in training: its optimizers, and the loop that it runs by itself."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from gradguard.lint import attributes, calls, events
from gradguard.lint.carry import units_of
from gradguard.lint.run import Frame, Run
from gradguard.lint.values import (
    NONE,
    Const,
    Data,
    Dict,
    Function,
    Instance,
    Optimizer,
    Seq,
    Unit,
    Value,
)

__all__ = ["automatic", "call_method", "fit"]

_BUILDS = ("configure_model", "setup", "on_fit_start", "on_train_start")
_BEFORE = ("on_train_batch_start",)
_AFTER = ("on_train_batch_end", "on_batch_end")


def call_method(
    run: Run, receiver: Instance, name: str, args: Sequence[Value], frame: Frame, node: ast.AST
) -> Value:
    """Call ``optimizers``, ``toggle_optimizer`` or ``untoggle_optimizer`` of a module."""
    if name == "optimizers":
        return _optimizers(run, receiver, frame, node)
    first = args[0] if args else None
    if isinstance(first, Optimizer):
        others = [unit for unit in units_of(receiver) if unit not in first.units]
        run.toggle(others, name == "toggle_optimizer", frame.site(node))
    return NONE


def _optimizers(run: Run, receiver: Instance, frame: Frame, node: ast.AST) -> Value:
    known = receiver.attrs.get("<optimizers>")
    if known is None:
        method = receiver.cls.find("configure_optimizers") if receiver.cls else None
        known = NONE
        if isinstance(method, Function):
            made = calls.call(run, method.bind(receiver), [], {}, frame, node)
            found = list(_among(made))
            known = found[0] if len(found) == 1 else Seq(run.fresh(), found, "tuple")
        receiver.attrs["<optimizers>"] = known
    return known


def _among(value: Value) -> Iterator[Optimizer]:
    """Walk the optimizers in what ``configure_optimizers`` returns, without their schedulers."""
    match value:
        case Optimizer():
            yield value
        case Dict():
            yield from _among(value.items.get("optimizer", NONE))
        case Seq():
            pair = len(value.items) == 2 and isinstance(value.items[0], Seq)
            for item in value.items[:1] if pair else value.items:
                yield from _among(item)
        case _:
            return


def automatic(run: Run, made: Instance, methods: Mapping[str, Function], frame: Frame) -> bool:
    """Say whether Lightning itself runs the losses of a module backward."""
    if "training_step" not in methods or "configure_optimizers" not in methods:
        return False
    node = methods["training_step"].node
    flag = attributes.get(run, made, "automatic_optimization", frame, node)
    return not (isinstance(flag, Const) and flag.value is False)


def fit(
    run: Run,
    made: Instance,
    methods: Mapping[str, Function],
    frame: Frame,
    drive: Callable[[Function, Mapping[str, Value]], Value],
) -> None:
    """Train a module as Lightning does where optimization is automatic.

    Args:
        run: The execution.
        made: The module.
        methods: What it has.
        frame: Where its class stands.
        drive: Calls one of its methods, with the arguments given and others unknown.
    """
    for name in _BUILDS:
        if name in methods:
            drive(methods[name], {})
    node = methods["training_step"].node
    known = _optimizers(run, made, frame, node)
    optimizers = [known] if isinstance(known, Optimizer) else list(_among(known))
    for turn in range(2):
        if turn:
            run.restart()
        for name in _BEFORE:
            if name in methods:
                drive(methods[name], {})
        for number, optimizer in enumerate(optimizers):
            with _Toggled(optimizer, optimizers):
                result = drive(methods["training_step"], {"optimizer_idx": Const(number)})
                loss = _loss(result)
                if loss is not None:
                    events.clear(run, optimizer.units, frame, node, optimizer)
                    events.backward(run, [loss], frame, node, site=loss.site)
                    events.step(run, optimizer, frame, node)
        for name in _AFTER:
            if name in methods:
                drive(methods[name], {})


def _loss(result: Value) -> Data | None:
    match result:
        case Data():
            return result
        case Dict():
            loss = result.items.get("loss", result.rest)
            return loss if isinstance(loss, Data) else None
        case _:
            return None


class _Toggled:
    """While one of several optimizers has its turn, what only the others hold is frozen."""

    def __init__(self, mine: Optimizer, all_of_them: Iterable[Optimizer]) -> None:
        """Take note of how things are."""
        others = {unit for one in all_of_them for unit in one.units if unit not in mine.units}
        self.states: list[tuple[Unit, bool | None]] = [(unit, unit.frozen) for unit in others]

    def __enter__(self) -> None:
        """Freeze the others."""
        for unit, _ in self.states:
            unit.frozen = True

    def __exit__(self, *_: object) -> None:
        """Put everything back as it was."""
        for unit, state in self.states:
            unit.frozen = state

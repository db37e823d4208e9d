"""What a training program does to gradients: watched in a live process, and predicted by lint.

Both sides tell the same story over the same leaves: the parts of models that a program names by
global expressions such as ``nets['a']`` or ``trainer.critic``.
"""

from __future__ import annotations

import ast
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from gradguard.lint import expressions, names
from gradguard.lint.carry import units_of
from gradguard.lint.entries import explore
from gradguard.lint.project import Project
from gradguard.lint.run import BackwardAt, ClearAt, Frame, StepAt
from gradguard.lint.values import Hidden, Optimizer, Unit

__all__ = ["Happened", "deterministic", "differences", "observe", "predict"]

PATH = Path(__file__).with_name("program.py")


@dataclass(frozen=True)
class Happened:
    """A backward pass or a step.

    Attributes:
        kind: ``backward`` or ``step``.
        row: Where the program asks for it.
        leaves: What received gradient, or what the optimizer holds.
        held: Where gradient lay just before.
        behind: For each called leaf that the loss reaches, the reached leaves behind it.
        unsure: Leaves of which the linter says that it cannot tell, or whose gradient was zero, so
            that nothing is seen to lie there.
        blind: True if the linter says that there may be more.
    """

    kind: str
    row: int
    leaves: frozenset[str]
    held: frozenset[str]
    behind: tuple[tuple[str, frozenset[str]], ...] = ()
    unsure: frozenset[str] = frozenset()
    blind: bool = False


def observe(source: str, handles: Iterable[str]) -> tuple[list[Happened], Exception | None]:
    """Run a program and return what it did, and what ended it early, if anything did."""
    watched = _Watched(list(handles))
    error: Exception | None = None
    with watched:
        try:
            exec(compile(source, str(PATH), "exec"), watched.namespace)  # noqa: S102
        except RuntimeError as raised:
            # Autograd refuses some graphs; what happened before is true all the same.
            error = raised
    return watched.events, error


class _Watched:
    def __init__(self, handles: list[str]) -> None:
        self.handles = handles
        self.namespace: dict[str, Any] = {"__name__": "program"}
        self.events: list[Happened] = []
        self._calls: list[tuple[nn.Module, Any, frozenset[int]]] = []
        self._undo: list[Any] = []

    def __enter__(self) -> None:
        engine = torch.autograd._engine_run_backward
        torch.autograd._engine_run_backward = self._door(engine)
        self._undo = [
            lambda: setattr(torch.autograd, "_engine_run_backward", engine),
            register_optimizer_step_pre_hook(self._step).remove,
            nn.modules.module.register_module_forward_hook(self._called).remove,
        ]

    def __exit__(self, *_: object) -> None:
        for undo in self._undo:
            undo()
        self._calls.clear()

    def _leaves(self) -> dict[str, list[Tensor]]:
        found = {}
        for handle in self.handles:
            value = eval(handle, self.namespace)  # noqa: S307
            found[handle] = list(value.parameters()) if isinstance(value, nn.Module) else [value]
        return found

    def _held(self, leaves: dict[str, list[Tensor]]) -> frozenset[str]:
        return frozenset(
            name
            for name, tensors in leaves.items()
            if any(t.grad is not None and bool(t.grad.count_nonzero()) for t in tensors)
        )

    def _called(self, module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor) and output.grad_fn is not None:
            below: set[int] = set()
            for value in given:
                if isinstance(value, Tensor):
                    below |= _walk(value)[1]
            self._calls.append((module, output.grad_fn, frozenset(below)))

    def _door(self, engine: Any) -> Any:
        def run(outputs: Any, *args: Any, **kwargs: Any) -> Any:
            leaves = self._leaves()
            every = [t for tensors in leaves.values() for t in tensors]
            held, before = self._held(leaves), [t.grad for t in every]
            nodes: set[Any] = set()
            for output in outputs:
                nodes |= _walk(output)[0]
            for tensor in every:
                tensor.grad = None
            try:
                result = engine(outputs, *args, **kwargs)
                reached = frozenset(
                    name for name, ts in leaves.items() if any(t.grad is not None for t in ts)
                )
                idle = reached - self._held(leaves)
            finally:
                for tensor, old in zip(every, before, strict=True):
                    if old is not None:
                        tensor.grad = old if tensor.grad is None else old + tensor.grad
            behind = self._behind(leaves, nodes, reached)
            self.events.append(Happened("backward", _row(), reached, held, behind, idle))
            return result

        return run

    def _behind(
        self, leaves: dict[str, list[Tensor]], nodes: set[Any], reached: frozenset[str]
    ) -> tuple[tuple[str, frozenset[str]], ...]:
        owner = {id(t): name for name, tensors in leaves.items() for t in tensors}
        found: dict[str, set[str]] = {}
        for module, node, below in self._calls:
            if node not in nodes:
                continue
            own = {owner[id(p)] for p in module.parameters(recurse=False) if id(p) in owner}
            for name in own & reached:
                lower = {owner[one] for one in below if one in owner} & reached
                found.setdefault(name, set()).update(lower - {name})
        return tuple(sorted((name, frozenset(lower)) for name, lower in found.items()))

    def _step(self, optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        leaves = self._leaves()
        holding = {id(p) for group in optimizer.param_groups for p in group["params"]}
        owned = frozenset(
            name for name, tensors in leaves.items() if any(id(t) in holding for t in tensors)
        )
        self.events.append(Happened("step", _row(), owned, self._held(leaves)))


def _walk(tensor: Tensor) -> tuple[set[Any], set[int]]:
    """Return the nodes below a tensor and the leaves that they end at."""
    nodes: set[Any] = set()
    leaves: set[int] = set()
    queue = [tensor.grad_fn]
    while queue:
        node = queue.pop()
        if node is None or node in nodes:
            continue
        nodes.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None:
            leaves.add(id(variable))
        queue += [parent for parent, _ in node.next_functions]
    return nodes, leaves


def _row() -> int:
    frame = sys._getframe(1)
    while frame.f_code.co_filename != str(PATH):
        assert frame.f_back is not None
        frame = frame.f_back
    return frame.f_lineno


def predict(source: str, handles: Iterable[str]) -> list[Happened]:
    """Return what the linter says a program does."""
    project = Project()
    project.hold(PATH, source)
    file = project.file(PATH)
    run = explore(project, file, time.monotonic() + 20)[0]
    frame = Frame(file, names.global_scope(run, file))
    leaf_of: dict[Unit, str] = {}
    for handle in handles:
        value = expressions.evaluate(run, ast.parse(handle, mode="eval").body, frame)
        leaf_of.update(dict.fromkeys(units_of(value), handle))
    held: set[str] = set()
    told: list[Happened] = []

    def leaves(units: Iterable[Unit]) -> frozenset[str]:
        return frozenset(leaf_of.get(unit, f"<{unit.name}>") for unit in units)

    for event in run.events:
        match event:
            case BackwardAt():
                unsure = leaves(u for u, arrival in event.flow.items() if not arrival.sure)
                behind: dict[str, set[str]] = {}
                for unit, arrival in event.flow.items():
                    (name,) = leaves([unit])
                    lower = leaves(u for u in arrival.behind if u in event.flow)
                    behind.setdefault(name, set()).update(lower - {name})
                told.append(
                    Happened(
                        "backward",
                        event.site.row,
                        leaves(event.flow),
                        frozenset(held),
                        tuple(sorted((n, frozenset(b)) for n, b in behind.items())),
                        unsure,
                        event.loss.hidden != Hidden.NOTHING,
                    )
                )
                held |= leaves(event.flow)
            case ClearAt():
                held -= leaves(event.units or _of(event.optimizer))
            case StepAt():
                owned = leaves(event.optimizer.units)
                blind = not event.optimizer.complete
                told.append(Happened("step", event.site.row, owned, frozenset(held), blind=blind))
    return told


def _of(optimizer: Optimizer | None) -> Iterable[Unit]:
    return optimizer.units if optimizer is not None else ()


def differences(true: list[Happened], told: list[Happened], *, whole: bool = True) -> Iterator[str]:
    """Say where a prediction contradicts the truth; what it leaves open contradicts nothing.

    Args:
        true: What happened.
        told: What was predicted.
        whole: False if the program was ended early, so that more may be predicted.
    """
    open_: set[str] = set()
    for number, (one, two) in enumerate(zip(true, told, strict=False)):
        where = f"event {number}, row {one.row}, {one.kind}"
        if (one.kind, one.row) != (two.kind, two.row):
            yield f"{where}: predicted {two.kind} at row {two.row}"
            return
        if (missed := one.leaves - two.leaves - two.unsure) and not two.blind:
            yield f"{where}: misses {sorted(missed)}"
        if extra := two.leaves - one.leaves - two.unsure:
            yield f"{where}: wrongly has {sorted(extra)}"
        open_ |= one.unsure | two.unsure | (one.leaves ^ two.leaves)
        if wrong := (one.held ^ two.held) - open_:
            yield f"{where}: gradient lay in {sorted(one.held)}, predicted {sorted(two.held)}"
            open_ |= wrong
        predicted = dict(two.behind)
        for name, lower in one.behind:
            if name in predicted and name not in two.unsure and lower != predicted[name]:
                yield (
                    f"{where}: behind {name} lie {sorted(lower)}, "
                    f"predicted {sorted(predicted[name])}"
                )
    if len(told) < len(true) or (whole and len(told) > len(true)):
        yield f"{len(true)} events happened, {len(told)} were predicted"


@contextmanager
def deterministic() -> Iterator[None]:
    """Keep the process's random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield

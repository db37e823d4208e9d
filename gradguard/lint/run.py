"""The state of one abstract execution, and what it records."""

from __future__ import annotations

import ast
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from gradguard.lint.project import Project, SourceFile
from gradguard.lint.values import (
    Class,
    Const,
    Data,
    Flow,
    Function,
    Hidden,
    Instance,
    Optimizer,
    Scope,
    Site,
    Unit,
    Value,
)

__all__ = [
    "BackwardAt",
    "Barren",
    "Budget",
    "ClearAt",
    "Evidence",
    "Frame",
    "Happening",
    "Idle",
    "OutOfTime",
    "RestartAt",
    "Run",
    "StepAt",
    "Toggle",
    "WriteAt",
]


class OutOfTime(Exception):  # noqa: N818  It says what happened, and no error did.
    """Raised inside an execution when its time or its work is used up."""


class Barren(Exception):  # noqa: N818  As above.
    """Raised inside a call that does much and brings nothing to light."""


@dataclass(slots=True)
class BackwardAt:
    """A backward pass.

    Attributes:
        loss: What is differentiated.
        name: How the program calls it.
        flow: Where its gradient goes, as flags stand when it runs.
        site: Where it is.
        stack: The calls it is under, outermost first.
        terms: Its summands that have a name, each with where its gradient goes.
        missing: Units that lie in the graph but are frozen at this moment.
        restricted: True if it was told which parameters to fill.
        rule: What the source declares for it.
        turns: Where the loops over known containers around it are.
        leaves: Tensors that it fills although no optimizer holds them.
    """

    loss: Data
    name: str
    flow: Flow
    site: Site
    stack: tuple[Site, ...]
    terms: tuple[tuple[str, Data], ...] = ()
    missing: frozenset[Unit] = frozenset()
    restricted: bool = False
    rule: object = None
    turns: tuple[int, ...] = ()
    leaves: frozenset[Unit] = frozenset()


@dataclass(slots=True)
class ClearAt:
    """Gradients of units are removed."""

    units: tuple[Unit, ...]
    site: Site
    optimizer: Optimizer | None = None
    complete: bool = True


@dataclass(slots=True)
class StepAt:
    """An optimizer steps; ``fixed`` is what it holds of models that are to be held fixed."""

    optimizer: Optimizer
    site: Site
    stack: tuple[Site, ...]
    fixed: frozenset[Unit] = frozenset()


@dataclass(slots=True)
class WriteAt:
    """Parameters are written to by hand; mixed, if their old values stay part of the new."""

    units: tuple[Unit, ...]
    site: Site
    sources: frozenset[Unit] = frozenset()
    mixed: bool = False


@dataclass(slots=True)
class RestartAt:
    """A loop or a driven method begins again."""


class Toggle(NamedTuple):
    """Parameters are frozen or released.

    Attributes:
        units: Which.
        frozen: Whether they are frozen now; ``None`` where that cannot be told.
        site: Where.
        when: How many events had happened.
        perhaps: True if it stands under a condition of which nothing is known.
        stack: The calls it is under, outermost first.
    """

    units: tuple[Unit, ...]
    frozen: bool | None
    site: Site
    when: int
    perhaps: bool
    stack: tuple[Site, ...]


_NO_FLOW: Flow = {}

Happening = BackwardAt | ClearAt | StepAt | WriteAt | RestartAt


@dataclass(slots=True)
class Limit:
    """How far a call may go before it has to bring something to light.

    Attributes:
        start: The work that was left when it began, or when it last brought something to light.
        fruit: How much the execution had brought to light by then.
    """

    start: int
    fruit: int


@dataclass(slots=True)
class Budget:
    """How much work an execution may still do.

    Attributes:
        deadline: When to give the file up, on the clock of ``time.thread_time``.
        work: Statements that may still be executed.
        limits: Those of the calls that are being executed, the innermost last; ``None`` for one
            that may go on.
    """

    deadline: float
    work: int = 400_000
    limits: list[Limit | None] = field(default_factory=list)
    _next: int = -1

    def spend(self, run: Run) -> None:
        """Count one statement.

        Raises:
            OutOfTime: If nothing is left.
            Barren: If the innermost call has done enough without any fruit.
        """
        self.work -= 1
        if self.work < self._next:
            self._reached(run)
        if self.work & 255 == 0 and time.thread_time() > self.deadline:
            raise OutOfTime

    def enter(self, run: Run, *, bounded: bool) -> None:
        """Begin a call."""
        self.limits.append(Limit(self.work, run.fruit()) if bounded else None)
        self._next = self.work - _PATIENCE if bounded else -1

    def leave(self) -> None:
        """End the innermost call."""
        self.limits.pop()
        limit = self.limits[-1] if self.limits else None
        self._next = max(limit.start - _PATIENCE, -1) if limit is not None else -1

    def forgive(self) -> None:
        """Do not count against the calls around the innermost one what that has done."""
        inner = self.limits[-1]
        for outer in self.limits[:-1]:
            if outer is not None and inner is not None:
                outer.start -= inner.start - self.work

    def _reached(self, run: Run) -> None:
        if self.work < 0:
            raise OutOfTime
        limit = self.limits[-1]
        fruit = run.fruit()
        if limit is None or fruit == limit.fruit:
            raise Barren
        limit.start, limit.fruit = self.work, fruit
        self._next = max(self.work - _PATIENCE, -1)


_PATIENCE = 2_000
"""Statements after which a call out of the file is given up if nothing has come of it."""


@dataclass(slots=True)
class Idle:
    """What a function has cost that brings nothing to light and returns plain data.

    Attributes:
        spent: Statements that its calls have taken.
        result: What the last of them has returned.
    """

    spent: int = 0
    result: Value | None = None


@dataclass(slots=True)
class Evidence:
    """What one execution has learned about unknown values, for the next one.

    Attributes:
        uses: For each unknown value the ways in which it was used.
        keys: Short names of what makes values the same.
        names: What the program calls unknown values that came without a name.
        models: The names of unknown values that have turned out to be models.
        barren: Functions that do much and bring nothing to light.
        work: Statements that all executions together may still take.
    """

    uses: dict[Hashable, set[str]] = field(default_factory=dict)
    keys: dict[Hashable, int] = field(default_factory=dict)
    names: dict[Hashable, tuple[str, ...]] = field(default_factory=dict)
    models: set[tuple[str, ...]] = field(default_factory=set)
    barren: set[ast.AST] = field(default_factory=set)
    work: int = 400_000

    def key(self, *parts: Hashable) -> Hashable:
        """Return a short name for ``parts``, the same whenever they are."""
        return ("#", self.keys.setdefault(parts, len(self.keys)))


class Frame:
    """One call of a function, or one module body, while it is executed."""

    __slots__ = (
        "cls",
        "file",
        "function",
        "globals",
        "nonlocals",
        "receiver",
        "returned",
        "scope",
        "yields",
    )

    def __init__(self, file: SourceFile, scope: Scope) -> None:
        """Open a frame."""
        self.file = file
        self.scope = scope
        self.cls: Class | None = None
        self.receiver: Value | None = None
        self.function: Function | None = None
        self.returned: Value | None = None
        self.yields: list[Value] | None = None
        self.globals: set[str] = set()
        self.nonlocals: set[str] = set()

    def site(self, node: ast.AST) -> Site:
        """Return where ``node`` stands."""
        known: Site | None = node.__dict__.get("_site")
        if known is not None:
            return known
        row = getattr(node, "lineno", 1)
        offset = getattr(node, "col_offset", 0)
        end_row = getattr(node, "end_lineno", None) or row
        end_offset = getattr(node, "end_col_offset", None) or offset
        site = Site(
            self.file.filename,
            row,
            self.file.column(row, offset),
            end_row,
            self.file.column(end_row, end_offset),
        )
        node._site = site  # type: ignore[attr-defined]  # noqa: SLF001
        return site


class Run:
    """One abstract execution.

    Attributes:
        project: Where imports lead.
        evidence: What earlier executions learned, and this one adds to.
        events: What happened, in order.
        grad: Whether gradients are being recorded.
        decisions: How conditions were decided, by key.
        open: Conditions that could have gone the other way: the key of each, by where it stands.
        asked: The conditions that were decided, in order, by key.
        cut: Open conditions by which loops were left early.
        fixed: What the blocks that are open hold fixed.
        visited: Calls that have been executed, by node.
        entered: Functions that have been called, by node.
        oddities: What checks look at besides events, by kind.
        branches: How many conditions of which nothing is known the execution stands under.
        yielding: What the frames of context managers do when they yield.
        home: The file that is being linted.
        whole: False if it had to be ended before its end.
        layers: How many times models have computed something.
        idle: Functions that have brought nothing to light so far.
        driven: The class that is driven.
        choice: Which of the classes that fit stands in for an abstract one.
        choices: How many of them there are.
        loading: Names whose definitions are being executed, each with its file.
        searched: Where names that are being looked for were looked for already.
        made: The object of each class of the project that was made last, by key of the class.
    """

    def __init__(
        self, project: Project, evidence: Evidence, budget: Budget, home: SourceFile | None = None
    ) -> None:
        """Start with nothing executed."""
        self.project = project
        self.home = home
        self.whole = True
        self.layers = 0
        self.idle: dict[ast.AST, Idle] = {}
        self.driven: Class | None = None
        self.choice = 0
        self.choices = 1
        self.made: dict[Hashable, Instance] = {}
        self.evidence = evidence
        self.budget = budget
        self.events: list[Happening] = []
        self.grad = True
        self.decisions: dict[Hashable, bool] = {}
        self.open: dict[int, Hashable] = {}
        self.asked: list[Hashable] = []
        self.cut: set[Hashable] = set()
        self.visited: set[int] = set()
        self.entered: set[int] = set()
        self.scopes: dict[Path, Scope] = {}
        self.loading: set[tuple[Path, str]] = set()
        self.searched: dict[str, set[Path]] = {}
        self.unknowns: dict[Hashable, Value] = {}
        self.stack: list[Site] = []
        self.active: list[ast.AST] = []
        self.loops: list[int] = []
        self.oddities: list[tuple[str, Site, tuple[object, ...]]] = []
        self.units: list[Unit] = []
        self.optimizers: list[Optimizer] = []
        self.contracts: list[object] = []
        self.fixed: list[tuple[Unit, ...]] = []
        self.toggled: list[Toggle] = []
        self.files: set[Path] = set()
        self.branches = 0
        self.used: set[Hashable] = set()
        self.yielding: dict[int, Callable[[Value], None]] = {}
        self._fresh = 0
        self._restarts = 0

    def key(self, *parts: Hashable) -> Hashable:
        """Return a short name for ``parts``."""
        return self.evidence.key(*parts)

    def fresh(self) -> Hashable:
        """Return a key that nothing else has."""
        self._fresh += 1
        return ("fresh", self._fresh)

    def data(
        self,
        site: Site | None,
        flow: Flow = _NO_FLOW,
        hidden: int = Hidden.NOTHING,
        key: Hashable = None,
    ) -> Data:
        """Make a tensor."""
        return Data(
            self.fresh() if key is None else key, flow if self.grad else _NO_FLOW, hidden, site
        )

    def witness(self, key: Hashable, use: str) -> None:
        """Note how an unknown value is used."""
        self.evidence.uses.setdefault(key, set()).add(use)

    def unit(self, key: Hashable, path: Iterable[str], *, bare: bool = False) -> Unit:
        """Make parameters."""
        unit = Unit(key, tuple(path), bare=bare)
        self.units.append(unit)
        return unit

    @contextmanager
    def gradient(self, mode: bool | None) -> Iterator[None]:
        """Set the gradient mode for a while."""
        before = self.grad
        if mode is not None:
            self.grad = mode
        try:
            yield
        finally:
            self.grad = before

    def fruit(self) -> int:
        """Return how much has been brought to light so far."""
        happened = len(self.events) - self._restarts
        return happened + len(self.units) + len(self.optimizers) + len(self.oddities)

    def restart(self) -> None:
        """Begin a loop, or a driven method, again."""
        self.events.append(RestartAt())
        self._restarts += 1

    def toggle(self, units: Iterable[Unit], frozen: bool | None, site: Site) -> None:
        """Freeze or release parameters."""
        found = tuple(units)
        for unit in found:
            unit.frozen = frozen
        perhaps = self.branches > 0
        self.toggled.append(
            Toggle(found, frozen, site, len(self.events), perhaps, tuple(self.stack))
        )

    def note(self, kind: str, site: Site, *facts: object) -> None:
        """Remember something that a check looks at."""
        self.oddities.append((kind, site, facts))


def truth(value: Value) -> bool | None:
    """Return whether a value is true, or ``None`` if that cannot be told."""
    match value:
        case Const():
            return bool(value.value)
        case Data():
            return None
        case _ if isinstance(value, Instance | Function | Class | Optimizer):
            return True
        case _:
            return None

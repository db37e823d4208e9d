"""The state of one abstract execution, and what it records."""

from __future__ import annotations

import ast
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

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
    "Budget",
    "ClearAt",
    "Evidence",
    "Frame",
    "Happening",
    "OutOfTime",
    "RestartAt",
    "Run",
    "StepAt",
    "TooDeep",
    "WriteAt",
]


class OutOfTime(Exception):  # noqa: N818  It says what happened, and no error did.
    """Raised inside an execution when its time or its work is used up."""


class TooDeep(Exception):  # noqa: N818  As above.
    """Raised inside an execution when calls nest too deeply to be followed."""


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


@dataclass(slots=True)
class ClearAt:
    """Gradients of units are removed."""

    units: tuple[Unit, ...]
    site: Site
    optimizer: Optimizer | None = None
    complete: bool = True


@dataclass(slots=True)
class StepAt:
    """An optimizer steps."""

    optimizer: Optimizer
    site: Site
    stack: tuple[Site, ...]


@dataclass(slots=True)
class WriteAt:
    """Parameters are written to by hand."""

    units: tuple[Unit, ...]
    site: Site
    sources: frozenset[Unit] = frozenset()


@dataclass(slots=True)
class RestartAt:
    """A loop or a driven method begins again."""


_NO_FLOW: Flow = {}

Happening = BackwardAt | ClearAt | StepAt | WriteAt | RestartAt


@dataclass(slots=True)
class Budget:
    """How much work an execution may still do."""

    deadline: float
    work: int = 400_000

    def spend(self) -> None:
        """Count one statement.

        Raises:
            OutOfTime: If nothing is left.
        """
        self.work -= 1
        if self.work < 0 or (self.work & 255 == 0 and time.monotonic() > self.deadline):
            raise OutOfTime


@dataclass(slots=True)
class Evidence:
    """What one execution has learned about unknown values, for the next one.

    Attributes:
        uses: For each unknown value the ways in which it was used.
        keys: Short names of what makes values the same.
        spans: First and last rows of the functions in each file.
    """

    uses: dict[Hashable, set[str]] = field(default_factory=dict)
    keys: dict[Hashable, int] = field(default_factory=dict)
    spans: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

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
        row = getattr(node, "lineno", 1)
        offset = getattr(node, "col_offset", 0)
        end_row = getattr(node, "end_lineno", None) or row
        end_offset = getattr(node, "end_col_offset", None) or offset
        return Site(
            self.file.filename,
            row,
            self.file.column(row, offset),
            end_row,
            self.file.column(end_row, end_offset),
        )


class Run:
    """One abstract execution.

    Attributes:
        project: Where imports lead.
        evidence: What earlier executions learned, and this one adds to.
        events: What happened, in order.
        grad: Whether gradients are being recorded.
        decisions: How conditions were decided, by key.
        open: Conditions that could have gone the other way, with where they stand.
        visited: Calls that have been executed, by node.
        oddities: What checks look at besides events, by kind.
        yielding: What the frames of context managers do when they yield.
    """

    def __init__(self, project: Project, evidence: Evidence, budget: Budget) -> None:
        """Start with nothing executed."""
        self.project = project
        self.evidence = evidence
        self.budget = budget
        self.events: list[Happening] = []
        self.grad = True
        self.decisions: dict[Hashable, bool] = {}
        self.open: dict[Hashable, tuple[ast.AST, bool]] = {}
        self.visited: set[int] = set()
        self.scopes: dict[Path, Scope] = {}
        self.loading: set[tuple[Path, str]] = set()
        self.unknowns: dict[Hashable, Value] = {}
        self.stack: list[Site] = []
        self.active: list[ast.AST] = []
        self.loops: list[int] = []
        self.oddities: list[tuple[str, Site, tuple[object, ...]]] = []
        self.units: list[Unit] = []
        self.optimizers: list[Optimizer] = []
        self.contracts: list[object] = []
        self.toggled: list[tuple[tuple[Unit, ...], bool | None, Site]] = []
        self.files: set[Path] = set()
        self.used: set[Hashable] = set()
        self.yielding: dict[int, Callable[[Value], None]] = {}
        self._fresh = 0

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

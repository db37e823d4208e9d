"""What an expression can stand for while source is executed abstractly."""

from __future__ import annotations

import ast
import sys
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from gradguard.lint.project import SourceFile

__all__ = [
    "LOCAL",
    "NONE",
    "UNBORN",
    "Arrival",
    "Bound",
    "Class",
    "Const",
    "Context",
    "Data",
    "Deferred",
    "Dict",
    "Flow",
    "Function",
    "Hidden",
    "Instance",
    "Library",
    "Namespace",
    "Optimizer",
    "Parameters",
    "Partial",
    "Scope",
    "Seq",
    "Site",
    "Super",
    "Unit",
    "Value",
    "merged",
]


LOCAL = "~"
"""Marks a name that only a function knows: any name outside is better."""


class Site(NamedTuple):
    """A stretch of source; rows and columns count from 1."""

    filename: str
    row: int
    column: int
    end_row: int
    end_column: int


class Value:
    """What an expression stands for.

    Attributes:
        key: What makes two occurrences the same value; conditions are decided by it.
    """

    __slots__ = ("key",)
    key: Hashable


class Const(Value):
    """A constant known from the source: ``None``, a number, a text, a truth value."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        """Hold the constant."""
        self.value = value
        self.key = ("const", type(value).__name__, value)


NONE = Const(None)


@dataclass(eq=False, slots=True)
class Unit:
    """Parameters that only ever come together: one constructed layer, or one bare parameter.

    Attributes:
        key: Stable from run to run.
        path: How the program gets at it, outermost name first.
        bare: True for a parameter that no module computes with.
        frozen: Whether its ``requires_grad`` is off; ``None`` where that cannot be told.
        origin: What it was copied from, if it was.
        shadow: True once it is known to be copied or averaged from another model.
        opaque: True if it stands for a model that was never seen being built.
        holders: Optimizers that were built over it.
        escaped: True once something unknown was given the means to change it.
        lent: True once its gradient was handed to other parameters, to be stepped there.
        tensor: True for a tensor that was told to require gradient: a parameter if optimized.
        made: Where it was constructed.
    """

    key: Hashable
    path: tuple[str, ...]
    bare: bool = False
    frozen: bool | None = False
    origin: Unit | None = None
    shadow: bool = False
    opaque: bool = False
    holders: list[Optimizer] = field(default_factory=list)
    escaped: bool = False
    lent: bool = False
    tensor: bool = False
    made: Site | None = None
    owner: Instance | None = None

    @property
    def name(self) -> str:
        """The path as one would write it."""
        text = ""
        for part in (one.removeprefix(LOCAL) for one in self.path):
            text += part if not text or part.startswith("[") else f".{part}"
        return text or "<model>"


UNBORN = sys.maxsize
"""When a model was called of which no call was seen: after every event, as far as one can say."""


class Arrival(NamedTuple):
    """How gradient of a tensor gets to a unit.

    Attributes:
        behind: Units that lie behind it.
        made: Where its model was called.
        enters: Where its output enters the next model.
        sure: False if an unknown call lies on the way.
        likely: True if that call carries it on, unless it carries nothing on.
        born: How many events had happened when its model was called, if a call was seen.
    """

    behind: frozenset[Unit]
    made: Site | None
    enters: Site | None
    sure: bool
    born: int = UNBORN
    likely: bool = False


Flow = Mapping[Unit, Arrival]
_EMPTY: dict[Unit, Arrival] = {}


def merged(flows: Iterable[Flow]) -> Flow:
    """Join what several tensors carry."""
    full = [flow for flow in flows if flow]
    if not full:
        return _EMPTY
    if len(full) == 1 or all(flow is full[0] for flow in full[1:]):
        return full[0]
    union = dict(full[0])
    for flow in full[1:]:
        for unit, arrival in flow.items():
            known = union.get(unit)
            if known is None:
                union[unit] = arrival
            elif known is not arrival:
                union[unit] = Arrival(
                    known.behind | arrival.behind,
                    known.made or arrival.made,
                    known.enters or arrival.enters,
                    known.sure or arrival.sure,
                    min(known.born, arrival.born),
                    known.likely or arrival.likely,
                )
    return union


class Hidden:
    """How much of what a tensor carries is out of sight: nothing, an argument, or a model."""

    NOTHING = 0
    ARGUMENT = 1
    SWALLOWED = 2


class Data(Value):
    """A tensor, or anything else of which no more is known than what gradient it carries.

    Attributes:
        flow: The units that its gradient reaches.
        hidden: Whether something out of sight may add to that.
        cuts: Units that it was computed from, cut off since, with where and how.
        terms: The summands of a loss.
        name: How the program calls it.
        tags: What kind of quantity it is, such as ``logp``.
        site: Where it was made.
        hint: The value of a parameter's default, where nothing was passed.
        path: How an unknown value was got at, for naming.
        operands: What it was made from, as ``(operation, values)``, for checks of shape.
        unknown: True if not even its type is known: it may be a model or an optimizer.
        attrs: What the program has stored on it.
    """

    __slots__ = (
        "attrs",
        "cuts",
        "flow",
        "hidden",
        "hint",
        "name",
        "operands",
        "path",
        "site",
        "tags",
        "terms",
        "unknown",
    )

    def __init__(
        self,
        key: Hashable,
        flow: Flow = _EMPTY,
        hidden: int = Hidden.NOTHING,
        site: Site | None = None,
    ) -> None:
        """Make a value that carries ``flow``."""
        self.key = key
        self.flow = flow
        self.hidden = hidden
        self.site = site
        self.cuts: Mapping[Unit, tuple[Site | None, str]] = {}
        self.terms: tuple[Data, ...] = ()
        self.name = ""
        self.tags: frozenset[str] = frozenset()
        self.hint: Const | None = None
        self.path: tuple[str, ...] = ()
        self.operands: tuple[str, tuple[Value, ...]] | None = None
        self.unknown = False
        self.attrs: dict[str, Value] = {}


class Instance(Value):
    """An object: of a class of the project, or of a class of a library that is understood.

    Attributes:
        cls: Its class; ``None`` for a library's.
        lib: Dotted name of the library class it is, or is derived from.
        attrs: Its attributes.
        items: Children of a module container, by subscript.
        unit: The parameters that it holds itself, for a library's layer.
        module: True if it is a ``torch.nn.Module``.
        path: How the program gets at it.
        open: True if it may have attributes that nobody saw being set.
        parent: The module that it was made a part of.
    """

    __slots__ = (
        "attrs",
        "cls",
        "copied",
        "items",
        "lib",
        "made",
        "module",
        "open",
        "parent",
        "path",
        "unit",
        "wrapped",
    )

    def __init__(self, key: Hashable, cls: Class | None = None, lib: str = "") -> None:
        """Make an object without attributes."""
        self.key = key
        self.cls = cls
        self.lib = lib
        self.attrs: dict[str, Value] = {}
        self.items: Seq | Dict | None = None
        self.unit: Unit | None = None
        self.module = False
        self.path: tuple[str, ...] = ()
        self.open = False
        self.made: Site | None = None
        self.wrapped: Value | None = None
        self.parent: Instance | None = None
        self.copied = False


class Parameters(Value):
    """Parameters of models: what ``parameters()`` returns, or one of them standing for all.

    Attributes:
        units: Whose parameters.
        one: True for a single parameter, or the variable of a loop over them.
        once: True for an iterator, which gives them only once.
        spent: Where an iterator was used up.
        made: Where an iterator was asked for.
        part: True if only some of each unit's parameters are meant.
        named: True if each comes with its name.
        values: True for ``.data`` of them: no gradient.
        grads: True for their ``.grad``.
        group: The optimizer whose list of them it is.
        complete: False if more parameters may be among them than the units say.
        source: The module that gave all of its parameters.
    """

    __slots__ = (
        "complete",
        "grads",
        "group",
        "made",
        "named",
        "once",
        "one",
        "part",
        "source",
        "spent",
        "units",
        "values",
    )

    def __init__(
        self,
        units: Iterable[Unit],
        *,
        one: bool = False,
        once: bool = False,
        named: bool = False,
        values: bool = False,
        grads: bool = False,
        part: bool = False,
        complete: bool = True,
    ) -> None:
        """Stand for the parameters of ``units``."""
        self.units: tuple[Unit, ...] = tuple(dict.fromkeys(units))
        self.one = one
        self.once = once
        self.named = named
        self.values = values
        self.grads = grads
        self.part = part
        self.complete = complete
        self.spent: Site | None = None
        self.made: Site | None = None
        self.source: Instance | None = None
        self.group: Optimizer | None = None
        self.key = ("parameters", self.units, one, named, values, grads)

    def like(self, **changes: Any) -> Parameters:
        """Return the same parameters, seen otherwise."""
        seen = {
            "one": self.one,
            "named": self.named,
            "values": self.values,
            "grads": self.grads,
            "part": self.part,
            "complete": self.complete,
        }
        made = Parameters(changes.pop("units", self.units), **(seen | changes))
        made.source = self.source
        return made


class Optimizer(Value):
    """An optimizer.

    Attributes:
        units: What it was built over; what is added later included.
        complete: False if it may hold more than that, or was never seen being built.
        path: How the program gets at it.
        site: Where it was built.
        escaped: True once something unknown was given it.
        sources: Modules that it was given all parameters of.
        partly: Units of which it may have been given only some parameters.
    """

    __slots__ = ("attrs", "complete", "escaped", "partly", "path", "site", "sources", "units")

    def __init__(self, key: Hashable, units: Iterable[Unit], site: Site | None) -> None:
        """Make an optimizer over ``units``."""
        self.key = key
        self.units: dict[Unit, None] = dict.fromkeys(units)
        self.complete = True
        self.path: tuple[str, ...] = ()
        self.site = site
        self.escaped = False
        self.attrs: dict[str, Value] = {}
        self.sources: list[Instance] = []
        self.partly: set[Unit] = set()

    @property
    def name(self) -> str:
        """The path as one would write it."""
        text = ""
        for part in (one.removeprefix(LOCAL) for one in self.path):
            text += part if not text or part.startswith("[") else f".{part}"
        return text or "optimizer"


class Seq(Value):
    """A list, tuple, set or iterator.

    Attributes:
        items: Its items, in order.
        rest: What further items look like, if there may be any.
        kind: ``list``, ``tuple``, ``set`` or ``iterator``.
    """

    __slots__ = ("items", "kind", "rest")

    def __init__(
        self,
        key: Hashable,
        items: Iterable[Value] = (),
        kind: str = "list",
        rest: Value | None = None,
    ) -> None:
        """Make a sequence."""
        self.key = key
        self.items = list(items)
        self.kind = kind
        self.rest = rest

    @property
    def closed(self) -> bool:
        """True if the items are all there are."""
        return self.rest is None


class Dict(Value):
    """A dictionary or another mapping.

    Attributes:
        items: Values by known key.
        rest: What the values under further keys look like, if there may be any.
    """

    __slots__ = ("items", "rest")

    def __init__(
        self, key: Hashable, items: Mapping[Any, Value] | None = None, rest: Value | None = None
    ) -> None:
        """Make a mapping."""
        self.key = key
        self.items: dict[object, Value] = dict(items or {})
        self.rest = rest


class Scope:
    """Names and what they stand for, with the scope around them."""

    __slots__ = ("names", "parent")

    def __init__(self, parent: Scope | None = None) -> None:
        """Open a scope."""
        self.names: dict[str, Value] = {}
        self.parent = parent

    def find(self, name: str) -> Value | None:
        """Look a name up, here and outward."""
        scope: Scope | None = self
        while scope is not None:
            value = scope.names.get(name)
            if value is not None:
                return value
            scope = scope.parent
        return None


class Function(Value):
    """A function, method or lambda of the project.

    Attributes:
        node: Its definition.
        file: Where it is defined.
        scope: The scope around it.
        cls: The class it is defined in.
        receiver: What it is bound to.
        modes: Gradient modes that its decorators set.
        defaults: Values of its defaults, by parameter.
        kind: ``plain``, ``static``, ``class`` or ``property``.
    """

    __slots__ = ("cls", "defaults", "file", "kind", "modes", "node", "receiver", "scope")

    def __init__(
        self,
        node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda,
        file: SourceFile,
        scope: Scope | None,
        cls: Class | None = None,
    ) -> None:
        """Make a function."""
        self.node = node
        self.file = file
        self.scope = scope
        self.cls = cls
        self.receiver: Value | None = None
        self.modes: tuple[bool, ...] = ()
        self.defaults: dict[str, Value] = {}
        self.kind = "plain"
        self.key = ("function", str(file.path), node.lineno, node.col_offset)

    @property
    def name(self) -> str:
        """Its name."""
        return getattr(self.node, "name", "<lambda>")

    def bind(self, receiver: Value) -> Function:
        """Return the function with its first argument given."""
        bound = Function(self.node, self.file, self.scope, self.cls)
        bound.receiver, bound.modes, bound.defaults = receiver, self.modes, self.defaults
        bound.kind = self.kind
        bound.key = ("bound", self.key, receiver.key)
        return bound


class Class(Value):
    """A class of the project.

    Attributes:
        node: Its definition.
        file: Where it is defined.
        scope: The scope around it.
        bases: What it is derived from.
        attrs: What its body has defined.
        lib: Dotted name of the first library class among its ancestors.
        module: True if it is derived from ``torch.nn.Module``.
        open: True if an ancestor is out of sight.
    """

    __slots__ = ("attrs", "bases", "file", "lib", "module", "node", "open", "scope")

    def __init__(self, node: ast.ClassDef, file: SourceFile, scope: Scope | None) -> None:
        """Make a class without attributes."""
        self.node = node
        self.file = file
        self.scope = scope
        self.bases: list[Value] = []
        self.attrs: dict[str, Value] = {}
        self.lib = ""
        self.module = False
        self.open = False
        self.key = ("class", str(file.path), node.lineno)

    @property
    def name(self) -> str:
        """Its name."""
        return self.node.name

    def ancestors(self) -> Iterator[Class]:
        """Walk the class and the project classes it is derived from, nearest first."""
        seen: set[int] = set()
        queue: list[Class] = [self]
        while queue:
            cls = queue.pop(0)
            if id(cls) in seen:
                continue
            seen.add(id(cls))
            yield cls
            queue[:0] = [base for base in cls.bases if isinstance(base, Class)]

    def find(self, name: str, after: Class | None = None) -> Value | None:
        """Look an attribute up, optionally only in what follows ``after`` (as ``super`` does)."""
        started = after is None
        for cls in self.ancestors():
            if started and name in cls.attrs:
                return cls.attrs[name]
            if cls is after:
                started = True
        return None


class Super(Value):
    """What ``super()`` stands for."""

    __slots__ = ("after", "receiver")

    def __init__(self, receiver: Value, after: Class) -> None:
        """Look up in what follows ``after``, bound to ``receiver``."""
        self.receiver = receiver
        self.after = after
        self.key = ("super", receiver.key, after.key)


class Library(Value):
    """Something of a library, by its dotted name."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        """Refer to ``name``."""
        self.name = name
        self.key = ("library", name)


class Deferred(Value):
    """What an import binds, before anybody has asked for it.

    Attributes:
        file: Where the import stands.
        node: The import.
        name: What it imports.
    """

    __slots__ = ("file", "name", "node")

    def __init__(self, file: SourceFile, node: ast.ImportFrom, name: str) -> None:
        """Remember an import."""
        self.file = file
        self.node = node
        self.name = name
        self.key = ("deferred", str(file.path), node.lineno, name)


class Namespace(Value):
    """A module of the project."""

    __slots__ = ("file",)

    def __init__(self, file: SourceFile) -> None:
        """Refer to ``file``."""
        self.file = file
        self.key = ("namespace", str(file.path))


class Bound(Value):
    """A method of a value that is not defined in the project."""

    __slots__ = ("name", "receiver")

    def __init__(self, receiver: Value, name: str) -> None:
        """Refer to ``receiver.name``."""
        self.receiver = receiver
        self.name = name
        self.key = ("method", receiver.key, name)


class Partial(Value):
    """A function with some of its arguments given."""

    __slots__ = ("args", "func", "kwargs")

    def __init__(self, func: Value, args: list[Value], kwargs: dict[str, Value]) -> None:
        """Remember the arguments."""
        self.func = func
        self.args = args
        self.kwargs = kwargs
        self.key = ("partial", func.key, tuple(arg.key for arg in args))


class Context(Value):
    """A context manager that is understood: it sets the gradient mode, or is a contract.

    Attributes:
        grad: The gradient mode inside, or ``None`` if it is left alone.
        result: What ``as`` binds.
        contract: What the source declares for inside, if anything.
        freezes: Parameters that it holds fixed inside.
    """

    __slots__ = ("contract", "freezes", "generator", "grad", "result")

    def __init__(self, grad: bool | None = None, result: Value = NONE) -> None:
        """Make a context manager."""
        self.grad = grad
        self.result = result
        self.contract: object = None
        self.generator: Value | None = None
        self.freezes: tuple[Unit, ...] = ()
        self.key = ("context", grad)

"""Where execution starts: module bodies, functions nobody calls, classes driven as users would."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from gradguard.lint import calls, expressions, names, statements, unknowns
from gradguard.lint.project import Project, SourceFile
from gradguard.lint.run import BackwardAt, Budget, Evidence, Frame, OutOfTime, Run
from gradguard.lint.values import (
    Class,
    Const,
    Data,
    Function,
    Instance,
    Library,
    Scope,
    Seq,
    Value,
)

__all__ = ["explore"]

_DOORS = frozenset({"backward", "manual_backward", "minimize"})
_MOST_FLIPS = 4
_WORK = 60_000
"""Statements that one execution may take, and all executions of a file of no length."""

_WORK_A_LINE = 40


@dataclass(frozen=True, slots=True)
class _Door:
    """A call that runs a loss backward, and what it stands in."""

    node: ast.Call
    outer: ast.AST | None
    method: ast.AST | None


@dataclass(slots=True)
class _Plan:
    """An entry: the module body, a function, or a class.

    Attributes:
        kind: Which of them.
        node: Its definition.
        doors: The doors that it is to lead to.
        thorough: True if also those methods of a class are entered that others call.
    """

    kind: str
    node: ast.AST | None = None
    doors: set[int] = field(default_factory=set)
    thorough: bool = False


def explore(project: Project, file: SourceFile, deadline: float) -> list[Run]:
    """Execute a file from every place where execution may start.

    Runs once to learn what unknown values are, and again if that has taught anything.

    Returns:
        One execution for each entry, and for each branch that had to be taken to get to a door.
    """
    evidence = Evidence(work=_WORK + _WORK_A_LINE * file.text.count("\n"))
    runs = _pass(project, file, evidence, deadline)
    if _learned(runs, evidence):
        runs = _pass(project, file, evidence, deadline)
        if _learned(runs, evidence):
            runs = _pass(project, file, evidence, deadline)
    return runs


def _learned(runs: Iterable[Run], evidence: Evidence) -> bool:
    for run in runs:
        for key, value in run.unknowns.items():
            if isinstance(value, Data) and unknowns.taken_for(run, key, value.path):
                return True
    return False


def _pass(project: Project, file: SourceFile, evidence: Evidence, deadline: float) -> list[Run]:
    doors = list(_doors(file.tree))
    visited: set[int] = set()
    runs: list[Run] = []

    def attempt(plan: _Plan, preset: Mapping[Hashable, bool], *, always: bool) -> Run:
        work = max(min(_WORK, evidence.work), 0)
        run = Run(project, evidence, Budget(deadline, work), file)
        run.decisions.update(preset)
        before = len(visited)
        with contextlib.suppress(_Stopped):
            _perform(run, file, plan)
        evidence.work -= work - max(run.budget.work, 0)
        visited.update(run.visited)
        if run.whole and (always or len(visited) > before):
            runs.append(run)
        return run

    def perform(plan: _Plan) -> None:
        first = attempt(plan, {}, always=True)
        wanted = [door for door in doors if not plan.doors or id(door.node) in plan.doors]
        # A loop that is left in its first turn does not show what the next turn meets.
        for key in list(first.cut)[:_MOST_FLIPS]:
            attempt(plan, {key: not first.decisions[key]}, always=True)
        for key, taken in list(_flips(first, file, wanted, visited))[:_MOST_FLIPS]:
            if all(id(door.node) in visited for door in wanted):
                break
            attempt(plan, {key: not taken}, always=False)
        silent = not any(isinstance(event, BackwardAt) for event in first.events)
        if plan.kind == "class" and (plan.doors - visited or silent):
            attempt(replace(plan, thorough=True), {}, always=False)

    perform(_Plan("module"))
    for plan in _plans(file, doors, visited):
        if not plan.doors or plan.doors - visited:
            perform(plan)
    return runs


class _Stopped(Exception):  # noqa: N818  It says what happened, and no error did.
    """Raised to end an execution early."""


def _perform(run: Run, file: SourceFile, plan: _Plan) -> None:
    try:
        match plan.kind:
            case "module":
                scope = names.global_scope(run, file)
                statements.execute(run, file.tree.body, Frame(file, scope))
            case "function":
                _drive_function(run, file, plan)
            case _:
                _drive_class(run, file, plan)
    except OutOfTime:
        if run.budget.work >= 0:
            raise
        run.whole = False
    except RecursionError:
        run.whole = False
        raise _Stopped from None


def _doors(tree: ast.Module) -> Iterator[_Door]:
    def walk(node: ast.AST, outer: ast.AST | None, method: ast.AST | None) -> Iterator[_Door]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Call) and isinstance(child.func, ast.Attribute):
                if child.func.attr in _DOORS:
                    yield _Door(child, outer, method)
            if isinstance(child, ast.ClassDef) and outer is None:
                yield from walk(child, child, None)
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                if outer is None:
                    yield from walk(child, child, child)
                elif isinstance(outer, ast.ClassDef) and method is None:
                    yield from walk(child, outer, child)
                else:
                    yield from walk(child, outer, method)
            else:
                yield from walk(child, outer, method)

    return walk(tree, None, None)


def _plans(file: SourceFile, doors: list[_Door], visited: set[int]) -> Iterator[_Plan]:
    """Return the entries for doors that the module body does not get to, as they are needed."""
    classes: dict[str, ast.ClassDef] = {}
    functions: dict[str, ast.AST] = {}
    for statement in file.tree.body:
        for node in _inside(statement):
            if isinstance(node, ast.ClassDef):
                classes[node.name] = node
            else:
                functions[getattr(node, "name", "")] = node
    by_outer: dict[int, set[int]] = {}
    for door in doors:
        if door.outer is not None:
            by_outer.setdefault(id(door.outer), set()).add(id(door.node))
    yield from _class_plans(classes, by_outer)
    calling = _callers(functions)
    for name, function in functions.items():
        reached = _reachable(name, calling)
        own = set().union(*(by_outer.get(id(functions[n]), set()) for n in reached))
        if own and not any(name in inner and outer != name for outer, inner in calling.items()):
            yield _Plan("function", function, own)
    # What remains is called from somewhere that was not got to.
    for function in functions.values():
        own = by_outer.get(id(function), set())
        if own - visited:
            yield _Plan("function", function, own)


def _inside(statement: ast.stmt) -> Iterator[ast.stmt]:
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield statement
    elif isinstance(statement, ast.If | ast.Try):
        for inner in statement.body + statement.orelse:
            yield from _inside(inner)


def _class_plans(
    classes: Mapping[str, ast.ClassDef], by_outer: Mapping[int, set[int]]
) -> Iterator[_Plan]:
    derived = {
        base.id for node in classes.values() for base in node.bases if isinstance(base, ast.Name)
    }
    for name, node in classes.items():
        own = set(by_outer.get(id(node), set()))
        for base in _bases(node, classes):
            own |= by_outer.get(id(base), set())
        leaf = name not in derived
        if own and leaf:
            yield _Plan("class", node, own)
        elif leaf and _from_elsewhere(node, classes):
            yield _Plan("class", node, set())


def _from_elsewhere(node: ast.ClassDef, classes: Mapping[str, ast.ClassDef]) -> bool:
    """Say whether a class may inherit its training from another file."""
    bases = [node, *_bases(node, classes)]
    for cls in bases:
        for base in cls.bases:
            text = ast.unparse(base)
            if text.rpartition(".")[2] not in classes and text not in _PLAIN_BASES:
                return True
    return False


_PLAIN_BASES = frozenset(
    [
        "object",
        "nn.Module",
        "torch.nn.Module",
        "Module",
        "ABC",
        "abc.ABC",
        "Exception",
        "Enum",
        "enum.Enum",
        "NamedTuple",
        "Dataset",
        "torch.utils.data.Dataset",
        "torch.autograd.Function",
        "Function",
        "TypedDict",
        "Protocol",
    ]
)


def _bases(node: ast.ClassDef, classes: Mapping[str, ast.ClassDef]) -> Iterator[ast.ClassDef]:
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in classes and classes[base.id] is not node:
            yield classes[base.id]
            yield from _bases(classes[base.id], classes)


def _callers(functions: Mapping[str, ast.AST]) -> dict[str, set[str]]:
    return {
        name: {
            inner.id
            for inner in ast.walk(node)
            if isinstance(inner, ast.Name) and inner.id in functions
        }
        for name, node in functions.items()
    }


def _reachable(name: str, calling: Mapping[str, set[str]]) -> set[str]:
    found = {name}
    queue = [name]
    while queue:
        for inner in calling.get(queue.pop(), ()):
            if inner not in found:
                found.add(inner)
                queue.append(inner)
    return found


def _flips(
    run: Run, file: SourceFile, doors: list[_Door], visited: set[int]
) -> Iterator[tuple[Hashable, bool]]:
    """Return the conditions that keep doors from being got to, with how they were decided."""
    missed = [door.node for door in doors if id(door.node) not in visited]
    if not missed:
        return
    leading = _leading(file.tree, {id(node) for node in missed})
    seen: set[Hashable] = set()
    for node in ast.walk(file.tree):
        if not isinstance(node, ast.If):
            continue
        for part in ast.walk(node.test):
            key = run.open.get(id(part))
            if key is None or key in seen:
                continue
            if any(id(inner) in leading for inner in ast.walk(node)):
                seen.add(key)
                yield key, run.decisions[key]


def _leading(tree: ast.Module, doors: set[int]) -> set[int]:
    """Return the calls that lead to doors, through functions and methods of the file."""
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    found = set(doors)
    wanted: set[str] = set()
    while True:
        size = len(found)
        wanted |= {
            function.name
            for function in functions
            if any(id(inner) in found for inner in ast.walk(function))
        }
        for inner in ast.walk(tree):
            if isinstance(inner, ast.Call):
                name = getattr(inner.func, "attr", getattr(inner.func, "id", ""))
                if name in wanted:
                    found.add(id(inner))
        if len(found) == size:
            return found


# --- driving ----------------------------------------------------------------------------------


def _argument(run: Run, function: Function, arg: ast.arg, frame: Frame) -> Value:
    """Return what an entry's parameter stands for."""
    key = run.key("argument", function.key, arg.arg)
    default = function.defaults.get(arg.arg)
    if isinstance(default, Const) and not (
        default.value is None or isinstance(default.value, bool)
    ):
        return default
    if default is not None and not isinstance(default, Const):
        return default
    hint = default if isinstance(default, Const) else None
    typed = _typed(run, function, arg, key, frame)
    if typed is not None and (hint is None or hint.value is not None):
        return typed
    site = frame.site(arg)
    return unknowns.unknown(run, key, (arg.arg,), site, hint)


def _typed(run: Run, function: Function, arg: ast.arg, key: Hashable, frame: Frame) -> Value | None:
    """Make a value of the type that a parameter is annotated with, where that tells something."""
    known = run.unknowns.get(key)
    if known is not None:
        return known
    if arg.annotation is None:
        return None
    annotation: ast.expr = arg.annotation
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            annotation = ast.parse(annotation.value, mode="eval").body
        except (SyntaxError, ValueError):
            return None
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value).endswith("Optional"):
        annotation = annotation.slice
    if isinstance(annotation, ast.BinOp):
        annotation = annotation.left
    if not isinstance(annotation, ast.Name | ast.Attribute):
        return None
    inner = Frame(function.file, function.scope or Scope())
    cls = expressions.evaluate(run, annotation, inner)
    if isinstance(cls, Library):
        short = cls.name.rpartition(".")[2]
        if cls.name.startswith("torch.optim.") and short != "LRScheduler":
            run.witness(key, "optimizer")
        elif calls.is_module_class(cls.name):
            run.witness(key, "model")
        return None
    if isinstance(cls, Class) and len(run.stack) < 4 and ("constructing", cls.key) not in run.used:
        run.used.add(("constructing", cls.key))
        try:
            made = _construct(run, cls, frame, arg)
        finally:
            run.used.discard(("constructing", cls.key))
        if isinstance(made, Instance):
            made.path = (arg.arg,)
            run.unknowns[key] = made
            return made
    return None


def _arguments(run: Run, function: Function, frame: Frame) -> tuple[list[Value], dict[str, Value]]:
    arguments = function.node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    if function.receiver is not None and function.kind != "static":
        positional = positional[1:]
    args = [_argument(run, function, arg, frame) for arg in positional]
    kwargs = {arg.arg: _argument(run, function, arg, frame) for arg in arguments.kwonlyargs}
    if arguments.kwarg is not None:
        key = run.key("argument", function.key, "**")
        kwargs["**"] = unknowns.unknown(run, key, (arguments.kwarg.arg,), frame.site(function.node))
    return args, kwargs


def _construct(run: Run, cls: Class, frame: Frame, node: ast.AST) -> Value:
    initializer = cls.find("__init__")
    made = Instance(run.key("driven", cls.key, frame.site(node)), cls, cls.lib)
    made.module, made.open = cls.module, cls.open
    if isinstance(initializer, Function):
        bound = initializer.bind(made)
        args, kwargs = _arguments(run, bound, frame)
        calls.call(run, bound, args, kwargs, frame, node)
    elif cls.find("__dataclass__") is not None:
        built = calls.construct(run, cls, [], {}, frame, node)
        if isinstance(built, Instance):
            made = built
    return made


def _drive_function(run: Run, file: SourceFile, plan: _Plan) -> None:
    name = getattr(plan.node, "name", "")
    function = names.member(run, file, name)
    frame = Frame(file, names.global_scope(run, file))
    if not isinstance(function, Function):
        return
    args, kwargs = _arguments(run, function, frame)
    made = calls.call(run, function, args, kwargs, frame, function.node)
    if function.name.startswith(("train", "step", "update", "learn", "optimi")):
        run.restart()
        calls.call(run, function, args, kwargs, frame, function.node)
    for result in made.items if isinstance(made, Seq) else [made]:
        if isinstance(result, Function) and result.node is not function.node:
            inner_args, inner_kwargs = _arguments(run, result, frame)
            for _ in range(2):
                calls.call(run, result, inner_args, inner_kwargs, frame, result.node)
                run.restart()


def _drive_class(run: Run, file: SourceFile, plan: _Plan) -> None:
    cls = names.member(run, file, getattr(plan.node, "name", ""))
    frame = Frame(file, names.global_scope(run, file))
    if not isinstance(cls, Class):
        return
    methods = _methods(cls)
    training = _training(methods)
    if not training:
        return
    made = _construct(run, cls, frame, cls.node)
    if not isinstance(made, Instance):
        return
    made.path = ("self",)
    called = set().union(*(_self_calls(function) for function in methods.values()))
    for name, function in methods.items():
        if name not in called and name not in training and _prepares(function):
            _call_driven(run, made, function, frame)
    roots = [name for name in training if not _called_by_training(name, methods, training)]
    roots = roots or list(training)
    hooks = [
        name
        for name, function in methods.items()
        if name not in called and name not in training and _averages(name, function)
    ]
    for turn in range(2):
        if turn:
            run.restart()
        for name in roots:
            _call_driven(run, made, methods[name], frame)
        for name in training if plan.thorough else ():
            # What a root leads to only under conditions that do not hold is entered by itself.
            if id(methods[name].node) not in run.entered:
                roots.append(name)
                _call_driven(run, made, methods[name], frame)
        for name in hooks:
            _call_driven(run, made, methods[name], frame)


def _call_driven(run: Run, made: Instance, function: Function, frame: Frame) -> None:
    if function.kind in ("static", "class", "property"):
        return
    bound = function.bind(made)
    args, kwargs = _arguments(run, bound, frame)
    calls.call(run, bound, args, kwargs, frame, function.node)


def _methods(cls: Class) -> dict[str, Function]:
    found: dict[str, Function] = {}
    for ancestor in cls.ancestors():
        for name, value in ancestor.attrs.items():
            if isinstance(value, Function):
                found.setdefault(name, value)
    return found


def _self_calls(function: Function) -> set[str]:
    known = getattr(function.node, "_self_calls", None)
    if known is None:
        known = {
            inner.attr
            for inner in ast.walk(function.node)
            if isinstance(inner, ast.Attribute)
            and isinstance(inner.value, ast.Name)
            and inner.value.id in ("self", "super")
        }
        for inner in ast.walk(function.node):
            if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Call):
                if isinstance(inner.value.func, ast.Name) and inner.value.func.id == "super":
                    known.add(inner.attr)
        function.node._self_calls = known  # type: ignore[union-attr]  # noqa: SLF001
    return set(known)


def _has_door(function: Function) -> bool:
    return any(
        isinstance(inner, ast.Call)
        and isinstance(inner.func, ast.Attribute)
        and (
            inner.func.attr in _DOORS
            or (
                inner.func.attr == "step"
                and isinstance(inner.func.value, ast.Name | ast.Attribute | ast.Subscript)
                and "opt" in ast.unparse(inner.func.value).lower()
            )
        )
        for inner in ast.walk(function.node)
    )


def _training(methods: Mapping[str, Function]) -> dict[str, None]:
    """Return the methods that run something backward, themselves or through others."""
    found = {name for name, function in methods.items() if _has_door(function)}
    while True:
        more = {
            name
            for name, function in methods.items()
            if name not in found and name != "__init__" and _self_calls(function) & found
        }
        if not more:
            break
        found |= more
    found.discard("__init__")
    return dict.fromkeys(name for name in methods if name in found)


def _called_by_training(
    name: str, methods: Mapping[str, Function], training: Mapping[str, None]
) -> bool:
    return any(other != name and name in _self_calls(methods[other]) for other in training)


def _prepares(function: Function) -> bool:
    """Say whether a method builds models or optimizers that the constructor has left out."""
    text_names = {
        inner.attr if isinstance(inner, ast.Attribute) else getattr(inner, "id", "")
        for inner in ast.walk(function.node)
        if isinstance(inner, ast.Attribute | ast.Name)
    }
    if function.name.startswith("__") or not any("optim" in name.lower() for name in text_names):
        return False
    return any(
        isinstance(inner, ast.Attribute)
        and isinstance(inner.ctx, ast.Store)
        and isinstance(inner.value, ast.Name)
        and inner.value.id == "self"
        for inner in ast.walk(function.node)
    )


_AVERAGING = ("update", "ema", "momentum", "soft", "sync", "target", "polyak", "average")


def _averages(name: str, function: Function) -> bool:
    if not any(word in name.lower() for word in _AVERAGING):
        return False
    return any(
        isinstance(inner, ast.Attribute)
        and inner.attr in ("parameters", "state_dict", "load_state_dict", "named_parameters")
        for inner in ast.walk(function.node)
    )

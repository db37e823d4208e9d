"""Where execution starts: module bodies, functions nobody calls, classes driven as users would."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeGuard

from gradguard.lint import names, statements, unknowns
from gradguard.lint.driving import DOORS, drive_class, drive_function
from gradguard.lint.project import Project, SourceFile
from gradguard.lint.run import BackwardAt, Budget, Evidence, Frame, OutOfTime, Run
from gradguard.lint.syntax import walk
from gradguard.lint.values import Data

__all__ = ["explore"]

_MOST_FLIPS = 4
_WORK = 60_000
"""Statements that one execution may take, and all executions of a file of no length."""

_WORK_A_LINE, _MOST_WORK = 40, 90_000


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
        choice: Which of the classes that fit stands in for an abstract one.
    """

    kind: str
    node: ast.AST | None = None
    doors: set[int] = field(default_factory=set)
    thorough: bool = False
    choice: int = 0


def explore(project: Project, file: SourceFile, deadline: float) -> list[Run]:
    """Execute a file from every place where execution may start.

    Runs once to learn what unknown values are, and again if that has taught anything.

    Returns:
        One execution for each entry, and for each branch that had to be taken to get to a door.
    """
    evidence = Evidence(work=min(_WORK + _WORK_A_LINE * file.text.count("\n"), _MOST_WORK))
    runs = _pass(project, file, evidence, deadline, later=2)
    if _learned(runs, evidence):
        runs = _pass(project, file, evidence, deadline, later=1)
        if _learned(runs, evidence):
            runs = _pass(project, file, evidence, deadline, later=0)
    return runs


def _learned(runs: Iterable[Run], evidence: Evidence) -> bool:
    for run in runs:
        for key, value in run.unknowns.items():
            if isinstance(value, Data) and unknowns.taken_for(run, key, value.path):
                return True
    return False


def _pass(
    project: Project, file: SourceFile, evidence: Evidence, deadline: float, *, later: int
) -> list[Run]:
    doors = list(_doors(file.tree))
    visited: set[int] = set()
    runs: list[Run] = []

    def attempt(plan: _Plan, preset: Mapping[Hashable, bool], *, always: bool) -> Run:
        work = max(min(_WORK, evidence.work), 0)
        run = Run(project, evidence, Budget(deadline, work), file)
        run.decisions.update(preset)
        run.choice = plan.choice
        before = len(visited)
        with contextlib.suppress(_Stopped):
            _perform(run, file, plan)
        evidence.work -= work - max(run.budget.work, 0)
        visited.update(run.visited)
        if run.whole and (always or len(visited) > before):
            runs.append(run)
        return run

    def perform(plan: _Plan) -> None:
        before = evidence.work
        first = attempt(plan, {}, always=True)
        # Other ways are gone only with what the passes to come do not need.
        needed = later * (before - evidence.work)
        wanted = [door for door in doors if not plan.doors or id(door.node) in plan.doors]
        # A loop that is left in its first turn does not show what the next turn meets.
        for key in list(first.cut)[:_MOST_FLIPS]:
            if evidence.work < needed:
                break
            attempt(plan, {key: not first.decisions[key]}, always=True)
        for key, taken in list(_flips(first, file, wanted, visited))[:_MOST_FLIPS]:
            if evidence.work < needed or all(id(door.node) in visited for door in wanted):
                break
            attempt(plan, {key: not taken}, always=False)
        for choice in range(1, first.choices):
            if evidence.work > needed:
                attempt(replace(plan, choice=choice), {}, always=True)
        silent = not any(isinstance(event, BackwardAt) for event in first.events)
        if plan.kind == "class" and (plan.doors - visited or silent) and evidence.work > needed:
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
                drive_function(run, file, getattr(plan.node, "name", ""))
            case _:
                drive_class(run, file, getattr(plan.node, "name", ""), thorough=plan.thorough)
    except OutOfTime:
        if run.budget.work >= 0:
            raise
        run.whole = False
    except RecursionError:
        run.whole = False
        raise _Stopped from None


def _doors(tree: ast.Module) -> Iterator[_Door]:
    inside: dict[int, tuple[ast.AST, ast.AST | None]] = {}
    for node in walk(tree):
        outer, method = inside.get(id(node), (None, None))
        if _is_door(node):
            yield _Door(node, outer, method)
        if isinstance(node, ast.ClassDef) and outer is None:
            inside |= dict.fromkeys(map(id, walk(node)[1:]), (node, None))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if outer is None:
                inside |= dict.fromkeys(map(id, walk(node)[1:]), (node, node))
            elif isinstance(outer, ast.ClassDef) and method is None:
                inside |= dict.fromkeys(map(id, walk(node)[1:]), (outer, node))


def _is_door(node: ast.AST) -> TypeGuard[ast.Call]:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in DOORS
    )


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
            for inner in walk(node)
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
    for node in walk(file.tree):
        if not isinstance(node, ast.If):
            continue
        for part in walk(node.test):
            key = run.open.get(id(part))
            if key is None or key in seen:
                continue
            if any(id(inner) in leading for inner in walk(node)):
                seen.add(key)
                yield key, run.decisions[key]


def _leading(tree: ast.Module, doors: set[int]) -> set[int]:
    """Return the calls that lead to doors, through functions and methods of the file."""
    calls: dict[str, list[int]] = {}
    around: dict[int, set[str]] = {}
    for node in walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            calls.setdefault(name, []).append(id(node))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for inner in walk(node):
                if isinstance(inner, ast.Call):
                    around.setdefault(id(inner), set()).add(node.name)
    found = set(doors)
    queue = list(doors)
    followed: set[str] = set()
    while queue:
        for name in around.get(queue.pop(), ()):
            if name not in followed:
                followed.add(name)
                more = [call for call in calls.get(name, ()) if call not in found]
                found.update(more)
                queue += more
    return found

"""Objects made as the project itself makes them: by the function that calls their class."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from gradguard.lint import calls, names
from gradguard.lint.arguments import arguments_of, construct
from gradguard.lint.project import SourceFile, Unreadable
from gradguard.lint.run import Frame, Run
from gradguard.lint.syntax import walk
from gradguard.lint.values import Class, Function, Instance, Value

__all__ = ["build"]

_MOST = 3
"""Places at which a class is called that are tried in turn."""

_DEEPEST = 3
_USES = frozenset({"backward", "step", "train", "fit", "learn", "update", "optimize", "run"})


@dataclass(frozen=True, slots=True)
class _Place:
    """A function of the project that makes an object.

    Attributes:
        file: Where it is.
        cls: The class that it is a method of, if it is one.
        function: Its definition.
    """

    file: SourceFile
    cls: str | None
    function: ast.FunctionDef


def build(run: Run, cls: Class, frame: Frame) -> Value:
    """Make an object of a class, as the project does if it does so anywhere.

    Where the project makes it in a function that only builds things, that function is executed,
    and so the object gets the models and optimizers that it is meant for. Else its constructor is
    called with arguments of which nothing is known but what is annotated.
    """
    if _is_told_all(cls):
        return construct(run, cls, frame, cls.node)
    building = ("building", cls.key)
    depth = sum(isinstance(one, tuple) and one[:1] == ("building",) for one in run.used)
    if building not in run.used and depth < _DEEPEST:
        run.used.add(building)
        try:
            for place in _places(run, cls):
                made = _built(run, cls, place)
                if made is not None:
                    return made
        finally:
            run.used.discard(building)
    return construct(run, cls, frame, cls.node)


def _is_told_all(cls: Class) -> bool:
    """Say whether a constructor needs no argument."""
    initializer = cls.find("__init__")
    if not isinstance(initializer, Function):
        return True
    arguments = initializer.node.args
    positional = [*arguments.posonlyargs, *arguments.args][1:]
    needed = len(positional) > len(arguments.defaults)
    return not needed and None not in arguments.kw_defaults


def _places(run: Run, cls: Class) -> Iterator[_Place]:
    found = 0
    for path in run.project.callers(cls.file, cls.name):
        try:
            file = run.project.file(path)
            tree = file.tree
        except Unreadable:
            continue
        for outer in tree.body:
            owner = outer.name if isinstance(outer, ast.ClassDef) else None
            if owner == cls.name:
                continue
            for function in outer.body if isinstance(outer, ast.ClassDef) else [outer]:
                if isinstance(function, ast.FunctionDef) and _only_makes(function, cls.name):
                    yield _Place(file, owner, function)
                    found += 1
                    if found == _MOST:
                        return


def _only_makes(function: ast.FunctionDef, name: str) -> bool:
    """Say whether a function calls a class, and nothing by a name that training goes by."""
    called = [
        node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        for node in walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute)
    ]
    return name in called and _USES.isdisjoint(called)


def _built(run: Run, cls: Class, place: _Place) -> Instance | None:
    """Execute what makes an object, and return the object."""
    frame = Frame(place.file, names.global_scope(run, place.file))
    if place.cls is None:
        function = names.member(run, place.file, place.function.name)
    else:
        owner = names.member(run, place.file, place.cls)
        if not isinstance(owner, Class):
            return None
        function = owner.attrs.get(place.function.name)
        if isinstance(function, Function) and function.kind not in ("static", "class"):
            holder = build(run, owner, frame)
            function = function.bind(holder)
        elif isinstance(function, Function):
            function = function.bind(owner)
    if not isinstance(function, Function) or function.node is not place.function:
        return None
    args, kwargs = arguments_of(run, function, frame)
    before = run.made.pop(cls.key, None)
    calls.call(run, function, args, kwargs, frame, function.node)
    made = run.made.pop(cls.key, None)
    if before is not None:
        run.made[cls.key] = before
    return made

"""Abstract classes, and the classes of the project that stand in for them."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from gradguard.lint import names
from gradguard.lint.run import Run
from gradguard.lint.syntax import walk
from gradguard.lint.values import Class, Function

__all__ = ["stand_in"]

_MOST = 3
"""Classes that are tried in turn."""


def stand_in(run: Run, cls: Class) -> Class | None:
    """Return the class that an abstract one stands for in this execution, if there is one.

    Those that share most words with the class that is driven fit best; which of them it is
    this time, ``run.choice`` says, and ``run.choices`` is raised to how many there are.
    """
    if not _abstract(cls):
        return cls
    fitting = _fitting(run, cls, run.driven) if run.driven is not None else []
    if not fitting:
        return None
    run.choices = max(run.choices, len(fitting))
    return fitting[min(run.choice, len(fitting) - 1)]


def _abstract(cls: Class) -> bool:
    """Say whether a module leaves its computation to the classes derived from it."""
    if not cls.module:
        return False
    forward = cls.find("forward")
    if not isinstance(forward, Function) or isinstance(forward.node, ast.Lambda):
        return forward is None
    body = [one for one in forward.node.body if not _says_nothing(one)]
    return all(isinstance(one, ast.Raise) for one in body)


def _says_nothing(statement: ast.stmt) -> bool:
    text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return text or isinstance(statement, ast.Pass)


def _fitting(run: Run, cls: Class, user: Class) -> list[Class]:
    wanted = _words([user.node]) - _words([cls.node])
    scored: list[tuple[int, Class]] = []
    for path, name in run.project.derived(cls.file, cls.name):
        found = names.member(run, run.project.file(path), name)
        if isinstance(found, Class) and cls in found.ancestors() and not _abstract(found):
            own = [one.node for one in found.ancestors() if one is not cls]
            scored.append((len(wanted & _words(own)), found))
    best = max((score for score, _ in scored), default=0)
    return [found for score, found in scored if best and score == best][:_MOST]


def _words(nodes: Iterable[ast.AST]) -> set[str]:
    """Return the names of attributes, arguments and entries that code mentions."""
    found: set[str] = set()
    for node in nodes:
        for inner in walk(node):
            match inner:
                case ast.Attribute():
                    found.add(inner.attr)
                case ast.keyword(arg=str(name)) | ast.Constant(value=str(name)):
                    found.add(name)
                case _:
                    continue
    return found

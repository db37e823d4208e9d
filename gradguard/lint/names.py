"""What names stand for: locals, globals, imports, and what a library offers."""

from __future__ import annotations

import ast
import builtins
from pathlib import Path

from gradguard.lint import statements, unknowns
from gradguard.lint.project import SourceFile
from gradguard.lint.run import Frame, Run
from gradguard.lint.values import Deferred, Library, Namespace, Scope, Value

__all__ = ["global_scope", "import_from", "import_module", "lookup", "member"]

_BUILTINS = frozenset(dir(builtins))


def global_scope(run: Run, file: SourceFile) -> Scope:
    """Return the scope of a module's globals."""
    scope = run.scopes.get(file.path)
    if scope is None:
        scope = run.scopes[file.path] = Scope()
        run.files.add(file.path)
    return scope


def lookup(run: Run, name: str, frame: Frame, node: ast.AST) -> Value:
    """Return what a name stands for where ``frame`` is."""
    found = frame.scope.find(name)
    if isinstance(found, Deferred):
        found = _settle(run, found, name, frame.scope)
    if found is None:
        found = member(run, frame.file, name)
    if found is not None:
        return found
    if name in _BUILTINS:
        return Library(f"builtins.{name}")
    return unknown_name(run, name, frame, node)


def unknown_name(run: Run, name: str, frame: Frame, node: ast.AST) -> Value:
    """Return the stable unknown that a name which nothing defines stands for."""
    return unknowns.unknown(
        run, run.key("global", frame.file.filename, name), (name,), frame.site(node)
    )


def member(run: Run, file: SourceFile, name: str) -> Value | None:
    """Return what a module's global stands for, executing only what defines it."""
    scope = global_scope(run, file)
    found = scope.names.get(name)
    if isinstance(found, Deferred):
        return _settle(run, found, name, scope)
    if found is not None:
        return found
    wanted = (file.path, name)
    defining = file.definitions.get(name) if file.mentions(name) else None  # Spares a parse.
    if defining is None or wanted in run.loading:
        return _starred(run, file, name)
    run.loading.add(wanted)
    frame = Frame(file, scope)
    try:
        with run.gradient(mode=True):
            for statement in defining[-1:]:
                statements.execute(run, [statement], frame)
        found = scope.names.get(name)
        return _settle(run, found, name, scope) if isinstance(found, Deferred) else found
    finally:
        run.loading.discard(wanted)


def _starred(run: Run, file: SourceFile, name: str) -> Value | None:
    """Look a name up in what a module imports everything from, and these modules in turn."""
    absent = run.project.absent
    if not file.stars or (file.path, name) in absent:
        return None
    # Modules that import everything from each other are come by in very many ways.
    first = name not in run.searched
    seen = run.searched.setdefault(name, {file.path})
    undisturbed = first and not any(one[1] == name for one in run.loading)
    try:
        found = _in_starred(run, file, name, seen)
    finally:
        if first:
            del run.searched[name]
    if found is None and undisturbed:
        absent.update((path, name) for path in seen)
    return found


def _in_starred(run: Run, file: SourceFile, name: str, seen: set[Path]) -> Value | None:
    for module, level in file.stars:
        source = run.project.imported(file, module, level)
        if source is None or source.path in seen:
            continue
        seen.add(source.path)
        # Most files need not be parsed to see that they do not offer a name.
        known = source.path in run.scopes or source.may_offer(name)
        found = member(run, source, name) if known else _starred(run, source, name)
        if found is not None:
            return found
    return None


def import_module(run: Run, node: ast.Import, frame: Frame) -> None:
    """Execute ``import a.b as c``."""
    for alias in node.names:
        name = alias.name if alias.asname else alias.name.partition(".")[0]
        source = run.project.imported(frame.file, name)
        value = Namespace(source) if source is not None else Library(name)
        frame.scope.names[alias.asname or name] = value


def import_from(run: Run, node: ast.ImportFrom, frame: Frame) -> None:
    """Execute ``from a.b import c``; what is imported is looked at when it is asked for."""
    in_class = frame.cls is not None and frame.function is None
    for alias in node.names:
        if alias.name == "*":
            continue
        made = Deferred(frame.file, node, alias.name)
        names = frame.scope.names
        names[alias.asname or alias.name] = _imported(run, made) if in_class else made


def _settle(run: Run, made: Deferred, name: str, scope: Scope) -> Value:
    """Look at what is imported, and bind the name to it where it is bound to the import."""
    found = _imported(run, made)
    inner: Scope | None = scope
    while inner is not None:
        if inner.names.get(name) is made:
            inner.names[name] = found
            break
        inner = inner.parent
    return found


def _imported(run: Run, made: Deferred) -> Value:
    node, name, file = made.node, made.name, made.file
    dotted = f"{node.module}.{name}" if node.module else name
    wanted = (file.path, f"{node.lineno}:{name}")
    if wanted not in run.loading:
        run.loading.add(wanted)
        try:
            source = run.project.imported(file, node.module or "", node.level)
            if source is not None:
                found = member(run, source, name) if source is not file else None
                if found is not None:
                    return found
            inner = run.project.imported(file, dotted, node.level)
            if inner is not None:
                return Namespace(inner)
        finally:
            run.loading.discard(wanted)
    return Library(f"{'.' * node.level}{dotted}")

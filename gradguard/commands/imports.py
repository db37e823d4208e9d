"""Waits for a program to import a module, without importing it in its place."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["when_imported"]


def when_imported(name: str, then: Callable[[], None]) -> None:
    """Call ``then`` as soon as the program has imported a module, at once if it is there."""
    if name in sys.modules:
        then()
        return

    class Waiting(MetaPathFinder):
        def find_spec(
            self, wanted: str, path: object = None, target: ModuleType | None = None
        ) -> ModuleSpec | None:
            if wanted != name:
                return None
            spec = _found(wanted, path, target, self)
            if spec is not None and spec.loader is not None:
                _after(spec.loader, done)
            return spec

    def done() -> None:
        if waiting in sys.meta_path:
            sys.meta_path.remove(waiting)
            then()

    waiting = Waiting()
    sys.meta_path.insert(0, waiting)


def _found(
    wanted: str, path: object, target: ModuleType | None, without: MetaPathFinder
) -> ModuleSpec | None:
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None) if finder is not without else None
        spec = find(wanted, path, target) if find is not None else None
        if spec is not None:
            return spec  # type: ignore[no-any-return]
    return None


def _after(loader: object, then: Callable[[], None]) -> None:
    """Let ``then`` follow when this very loader has run its module.

    A program may ask for the spec of a module and never import it.
    """
    run = loader.exec_module  # type: ignore[attr-defined]

    def exec_module(module: ModuleType) -> None:
        del loader.exec_module  # type: ignore[attr-defined]
        run(module)
        then()

    loader.exec_module = exec_module  # type: ignore[attr-defined]

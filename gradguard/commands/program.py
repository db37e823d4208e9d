"""Runs a program as the interpreter itself would: arguments, ``__main__``, exit, all of it."""

from __future__ import annotations

import atexit
import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Callable
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType, TracebackType

from gradguard.commands.status import CannotRun

__all__ = ["Program"]

_OWN = str(Path(__file__).resolve().parents[1])


class Program:
    """A script, a folder with a ``__main__.py``, or a module.

    Args:
        target: The path of the script, or the name of the module.
        arguments: What follows it on the command line.
        module: True for the name of a module.
    """

    def __init__(self, target: str, arguments: list[str], *, module: bool) -> None:
        """Find the program; nothing of it runs yet.

        Raises:
            CannotRun: If there is no such program.
        """
        self._spec: ModuleSpec | None = None
        self._folder = ""
        if module:
            sys.path[:1] = [str(Path.cwd())] if not sys.flags.safe_path else sys.path[:1]
            self._spec = _find(target)
            self.path = self._spec.origin or target
        else:
            path = Path(target)
            if path.is_dir():
                self._folder, path = target, path / "__main__.py"
            if not path.is_file():
                raise CannotRun(f"cannot run `{target}`: there is no such file")
            self.path = str(path)
        self._arguments = arguments
        self._target = target

    def run(self) -> BaseException | None:
        """Run it, and return the exception that ended it, if one did."""
        main = ModuleType("__main__")
        spec = self._spec
        vars(main).update(
            __file__=self.path,
            __builtins__=sys.modules["builtins"],
            __spec__=spec,
            __package__=spec.parent if spec is not None else None,
            __loader__=spec.loader if spec else SourceFileLoader("__main__", self.path),
            __cached__=None,
        )
        sys.modules["__main__"] = main
        sys.argv = [self.path if spec is not None else self._target, *self._arguments]
        if spec is None and not sys.flags.safe_path:
            sys.path[0] = self._folder or str(Path(self.path).resolve().parent)
        try:
            exec(self._code(), vars(main))  # noqa: S102
        except BaseException as error:  # noqa: BLE001  Whatever ends it, ends it.
            return error
        return None

    def _code(self) -> CodeType:
        if self._spec is not None:
            loader: SourceFileLoader = self._spec.loader  # type: ignore[assignment]
            code = loader.get_code(self._spec.name)
            if code is None:
                raise ImportError(f"no code for {self._spec.name}")
            return code
        return compile(Path(self.path).read_bytes(), self.path, "exec", dont_inherit=True)


def _find(name: str) -> ModuleSpec:
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
    except (ImportError, ValueError) as error:
        raise CannotRun(f"cannot run module `{name}`: {error}") from None
    if spec is None or spec.loader is None:
        raise CannotRun(f"cannot run module `{name}`: there is no such module")
    return spec


def conclude(error: BaseException | None) -> int:
    """Do what the interpreter does at the end of a program, and return its exit status."""
    status = 0
    if isinstance(error, SystemExit):
        status = _asked(error.code)
    elif error is not None:
        status = 1
        trace = trimmed(error)
        try:
            sys.excepthook(type(error), error, trace)
        except BaseException:  # noqa: BLE001  As the interpreter: show the error by itself.
            sys.__excepthook__(type(error), error, trace)
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001
    except BaseException:  # noqa: BLE001  An interrupt while threads are waited for.
        status = status or 1
    atexit._run_exitfuncs()  # noqa: SLF001
    return status


def _asked(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)  # noqa: T201
    return 1


def trimmed(error: BaseException) -> TracebackType | None:
    """Take the frames of this package out of a traceback, and of those of its causes."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = _without_own(one.__traceback__)
        waiting += [one.__cause__, one.__context__]
    return error.__traceback__


def _without_own(trace: TracebackType | None) -> TracebackType | None:
    kept: list[TracebackType] = []
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(_OWN):
            kept.append(trace)
        trace = trace.tb_next
    for one, following in zip(kept, [*kept[1:], None], strict=True):
        one.tb_next = following
    return kept[0] if kept else None


def interrupt() -> None:
    """End as an interrupted program does."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


def when_imported(name: str, then: Callable[[], None]) -> None:
    """Call ``then`` as soon as the program has imported a module, at once if it is there."""
    if name in sys.modules:
        then()
        return

    class Finder:
        @staticmethod
        def find_spec(
            wanted: str, _path: object = None, _target: object = None
        ) -> ModuleSpec | None:
            if wanted != name:
                return None
            sys.meta_path.remove(Finder)
            spec = importlib.util.find_spec(name)
            if spec is None or spec.loader is None:
                return spec
            loader = spec.loader
            run = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                del loader.exec_module
                run(module)
                then()

            loader.exec_module = exec_module  # type: ignore[method-assign]
            return spec

    sys.meta_path.insert(0, Finder)

"""Runs a program as the interpreter itself would: arguments, ``__main__``, path, all of it."""

from __future__ import annotations

import importlib.util
import os
import sys
import zipfile
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from gradguard.commands.status import CannotRun

__all__ = ["Program"]


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
        self._target = target
        self._arguments = arguments
        self._module = module
        self._spec: ModuleSpec | None = None
        self._path = ""
        if module:
            self._enter(str(Path.cwd()))
            _require(target)
            return
        path = Path(target)
        if path.is_dir() or zipfile.is_zipfile(path):
            folder = os.path.join(os.getcwd(), target)  # noqa: PTH109, PTH118  As it is spelled.
            self._spec = PathFinder.find_spec("__main__", [folder])
            if self._spec is None:
                raise CannotRun(f"cannot run the program: `{target}` has no __main__.py")
            self._enter(folder)
            return
        if not path.is_file():
            raise CannotRun(f"cannot run the program: there is no `{target}`")
        if not os.access(path, os.R_OK):
            raise CannotRun(f"cannot run the program: `{target}` may not be read")
        self._path = os.path.abspath(path)  # noqa: PTH100  As the interpreter, links stay.
        self._enter(os.path.dirname(os.path.realpath(path)))  # noqa: PTH120

    def run(self) -> BaseException | None:
        """Run it, and return the exception that ended it, if one did.

        Raises:
            CannotRun: If there is no such module in a package that exists.
        """
        try:
            if self._module:
                self._run_module()
            else:
                self._run_script()
        except CannotRun:
            raise
        except BaseException as error:  # noqa: BLE001  Whatever ends it, ends it.
            return error
        return None

    def _enter(self, folder: str) -> None:
        if not sys.flags.safe_path:
            sys.path[0] = folder

    def _run_script(self) -> None:
        sys.argv = [self._target, *self._arguments]
        if self._spec is not None:
            self._execute(self._spec, _code(self._spec))
            return
        main = _main(self._path, None, SourceFileLoader("__main__", self._path))
        content = Path(self._path).read_bytes()
        code = compile(content, self._path, "exec", dont_inherit=True)
        exec(code, vars(main))  # noqa: S102

    def _run_module(self) -> None:
        sys.argv = ["-m", *self._arguments]
        spec = _found(self._target)
        code = _code(spec) if spec is not None else None
        if spec is None or code is None:
            raise CannotRun(
                f"cannot run the program: `{self._target}` is no module that can be run"
            )
        sys.argv[0] = spec.origin or self._target
        self._execute(spec, code)

    def _execute(self, spec: ModuleSpec, code: CodeType | None) -> None:
        main = _main(spec.origin, spec, spec.loader)
        if code is not None:
            exec(code, vars(main))  # noqa: S102


def _main(path: str | None, spec: ModuleSpec | None, loader: object) -> ModuleType:
    main = ModuleType("__main__")
    vars(main).update(
        __file__=path,
        __builtins__=sys.modules["builtins"],
        __annotations__={},
        __spec__=spec,
        __package__=spec.parent if spec is not None else None,
        __loader__=loader,
        __cached__=spec.cached if spec is not None else None,
    )
    sys.modules["__main__"] = main
    return main


def _require(name: str) -> None:
    """Refuse what cannot be a module; this imports nothing."""
    if name.endswith(".py") and Path(name).is_file():
        raise CannotRun(f"cannot run the program: `{name}` is a file: leave out `-m`")
    try:
        found = importlib.util.find_spec(name.partition(".")[0])
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise CannotRun(f"cannot run the program: there is no module `{name}`")


def _found(name: str) -> ModuleSpec | None:
    """Find what ``python -m`` would run; that imports the packages around it."""
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            return importlib.util.find_spec(f"{name}.__main__")
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.__main__".startswith(error.name):
            raise
        return None
    return spec


def _code(spec: ModuleSpec) -> CodeType | None:
    get_code = getattr(spec.loader, "get_code", None)
    return get_code(spec.name) if get_code is not None else None

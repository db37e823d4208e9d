"""The files of a project: read once, parsed when needed, found by import."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

from gradguard.core.columns import column
from gradguard.lint.prefilter import trains
from gradguard.lint.syntax import walk

__all__ = ["Project", "SourceFile", "Unreadable"]

# A folder of the project called like one of these does not capture absolute imports.
_LIBRARIES = frozenset(
    [
        "gradguard",
        "torch",
        "torchvision",
        "torchaudio",
        "numpy",
        "tensorflow",
        "jax",
        "flax",
        "gym",
        "gymnasium",
        "lightning",
        "pytorch_lightning",
        "transformers",
        "accelerate",
        "deepspeed",
    ]
)


class Unreadable(Exception):  # noqa: N818  The name says what is wrong already.
    """Raised when a file cannot be read, decoded or parsed; the message says where and why.

    Attributes:
        row: The row of the trouble, from 1.
        column: Its column, from 1.
    """

    def __init__(self, message: str, row: int = 1, column: int = 1) -> None:
        """Describe the trouble."""
        super().__init__(message)
        self.row = max(row, 1)
        self.column = max(column, 1)


class SourceFile:
    """One Python file.

    Attributes:
        path: Where it is.
        package: Dotted parts of the package that it is in.
        text: What it holds.
    """

    def __init__(self, path: Path, package: tuple[str, ...], text: str) -> None:
        """Hold a file's text."""
        self.path = path
        self.filename = str(path)
        self.package = package
        self.text = text
        self._mentions: dict[str, bool] = {}

    def mentions(self, name: str) -> bool:
        """Say whether a name is anywhere in the text."""
        known = self._mentions.get(name)
        if known is None:
            known = self._mentions[name] = name in self.text
        return known

    def column(self, row: int, offset: int) -> int:
        """Return the column, in characters from 1, of a byte of a row."""
        lines = self._lines
        return column(lines[row - 1] if row <= len(lines) else "", offset)

    @cached_property
    def _lines(self) -> list[str]:
        """The lines of a file in which bytes are not characters; else none."""
        return [] if self.text.isascii() else list(io.StringIO(self.text, newline=None))

    @property
    def parsed(self) -> bool:
        """True if its tree is in memory."""
        return "tree" in self.__dict__

    def forget(self) -> None:
        """Free the room that the tree takes."""
        for name in ("tree", "definitions", "spans"):
            self.__dict__.pop(name, None)

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed file.

        Raises:
            Unreadable: If Python rejects it.
        """
        try:
            return ast.parse(self.text)
        except SyntaxError as error:
            message = f"cannot be parsed: {error.msg}"
            raise Unreadable(message, error.lineno or 1, error.offset or 1) from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise Unreadable(f"cannot be parsed: {error}") from None

    @cached_property
    def definitions(self) -> dict[str, list[ast.stmt]]:
        """The statements at the top level that define each name, in order."""
        found: dict[str, list[ast.stmt]] = {}
        for statement in _toplevel(self.tree.body):
            for name in _defined(statement):
                found.setdefault(name, []).append(statement)
        return found

    @cached_property
    def stars(self) -> list[tuple[str, int]]:
        """The modules that it imports everything from, each with the number of leading dots."""
        return [(name, len(dots)) for dots, name in _STAR.findall(self.text)]

    def may_offer(self, name: str) -> bool:
        """Say whether importing everything from it may bring a name, without parsing it."""
        if not self.mentions(name):
            return False
        return self.path.name == "__init__.py" or name in self._offered

    @cached_property
    def _offered(self) -> frozenset[str]:
        found = _DEFINED.findall(self.text)
        return frozenset(name for names in found for name in names if name)

    @cached_property
    def spans(self) -> list[tuple[int, int]]:
        """First and last rows of the functions."""
        return [
            (node.lineno, node.end_lineno or node.lineno)
            for node in walk(self.tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]


_DEFINED = re.compile(
    r"^(?: {4}|\t)?(?:async[ \t]+def|def|class)[ \t]+(\w+)|^(\w+)[ \t]*[:=,]", re.MULTILINE
)
_STAR = re.compile(
    r"^[ \t]*from[ \t]+(\.*)[ \t]*([\w.]*)[ \t]+import[ \t]*\(?[ \t]*\*", re.MULTILINE
)


def _toplevel(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        match statement:
            case ast.If():
                yield from _toplevel(statement.body)
                yield from _toplevel(statement.orelse)
            case ast.Try():
                yield from _toplevel(statement.body)
                yield from _toplevel(statement.orelse)
                for handler in statement.handlers:
                    yield from _toplevel(handler.body)
            case ast.With():
                yield from _toplevel(statement.body)
            case _:
                yield statement


def _defined(statement: ast.stmt) -> Iterator[str]:
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield statement.name
        case ast.Import():
            for alias in statement.names:
                yield alias.asname or alias.name.partition(".")[0]
        case ast.ImportFrom():
            for alias in statement.names:
                yield alias.asname or alias.name
        case ast.Assign():
            for target in statement.targets:
                yield from _names(target)
        case ast.AnnAssign() if statement.value is not None:
            yield from _names(statement.target)
        case _:
            return


def _names(target: ast.expr) -> Iterator[str]:
    match target:
        case ast.Name():
            yield target.id
        case ast.Tuple() | ast.List():
            for item in target.elts:
                yield from _names(item)
        case _:
            return


_CLASS = re.compile(r"^class\s+(\w+)\s*\(([^()]*)\)\s*:", re.MULTILINE)
_FROM = re.compile(
    r"^[ \t]*from[ \t]+(\.*)([\w.]*)[ \t]+import[ \t]*(\([^)]*\)|[^\n(]*)", re.MULTILINE
)
_WORD = re.compile(r"\w+")
_MADE = re.compile(r"\b([A-Z]\w*)\(")
_MOST_FILES = 3000


def _families(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the classes at the top level of a file, each with the short names of its bases."""
    for name, bases in _CLASS.findall(text):
        yield name, [base.strip().rpartition(".")[2] for base in bases.split(",")]


_MOST_PARSED = 4_000_000
"""Characters of source whose trees are kept; a tree takes some fifty times the room."""


class Project:
    """The files that imports of the linted files can lead to.

    Attributes:
        roots: The folders that imports start from.
        absent: Names that the modules which a file imports everything from do not define, each
            with the file.
    """

    def __init__(self, roots: Iterable[Path] = ()) -> None:
        """Start from the folders that the user named."""
        self.roots = tuple(root.resolve() for root in roots)
        self._files: dict[Path, SourceFile | None] = {}
        self._found: dict[tuple[Path, str], Path | None] = {}
        self._listings: dict[Path, frozenset[str]] = {}
        self.absent: set[tuple[Path, str]] = set()
        self._callers: dict[Path, dict[str, list[Path]]] = {}
        self._heirs: dict[Path, bool] = {}
        self._families: dict[Path, dict[str, list[tuple[Path, str]]]] = {}

    def trim(self) -> None:
        """Forget trees if they have become many; files are parsed again when needed."""
        parsed = [one for one in self._files.values() if one is not None and one.parsed]
        if sum(len(one.text) for one in parsed) > _MOST_PARSED:
            for one in parsed:
                one.forget()

    def hold(self, path: Path, text: str) -> None:
        """Take ``text`` for what the file at ``path`` holds."""
        path = path.absolute()
        self._files[path] = SourceFile(path, self._package(path), text)

    def file(self, path: Path) -> SourceFile:
        """Return the file at ``path``.

        Raises:
            Unreadable: If it cannot be read or decoded.
        """
        path = path.absolute()
        known = self._files.get(path)
        if known is not None:
            return known
        try:
            with tokenize.open(path) as stream:
                text = stream.read()
        except (OSError, UnicodeDecodeError, SyntaxError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise Unreadable(f"cannot be read: {reason}") from None
        file = SourceFile(path, self._package(path), text)
        self._files[path] = file
        return file

    def imported(self, file: SourceFile, module: str, level: int = 0) -> SourceFile | None:
        """Return the project's file that an import in ``file`` leads to, if it is one.

        Args:
            file: Where the import stands.
            module: The dotted name that is imported.
            level: The number of leading dots.
        """
        path = self._resolve(file, module, level)
        if path is None:
            return None
        if path not in self._files:
            try:
                self.file(path)
            except Unreadable:
                self._files[path] = None
        return self._files[path]

    def inherits_training(self, file: SourceFile, depth: int = 3) -> bool:
        """Say whether a class of a file may be derived from one elsewhere that trains.

        Args:
            file: The file.
            depth: How many files to follow bases through.
        """
        known = self._heirs.get(file.path)
        if known is None:
            bases = {base for _, found in _families(file.text) for base in found}
            known = self._heirs[file.path] = any(
                trains(source.text) or (depth > 1 and self.inherits_training(source, depth - 1))
                for source in self._sources_of(file, bases)
            )
        return known

    def _sources_of(self, file: SourceFile, names: set[str]) -> Iterator[SourceFile]:
        """Yield the project's files that names of a file are imported from."""
        for dots, module, listed in _FROM.findall(file.text) if names else ():
            if names.isdisjoint(_WORD.findall(listed)):
                continue
            source = self.imported(file, module, len(dots))
            if source is not None and source is not file:
                yield source

    def callers(self, file: SourceFile, name: str) -> list[Path]:
        """Return the files of the package of ``file`` that call something of a capitalised name."""
        top = self._top(file)
        known = self._callers.get(top)
        if known is None:
            known = self._callers[top] = {}
            for path in self._siblings(file, top):
                for called in frozenset(_MADE.findall(self._text(path))):
                    known.setdefault(called, []).append(path)
        return known.get(name, [])

    def derived(self, file: SourceFile, base: str) -> list[tuple[Path, str]]:
        """Return the classes of the package of ``file`` that are derived from a class, by name.

        Args:
            file: Where the class is.
            base: What it is called.
        """
        top = self._top(file)
        known = self._families.get(top)
        if known is None:
            known = self._families[top] = {}
            for path in self._siblings(file, top) if file.package else ():
                for name, bases in _families(self._text(path)):
                    for one in bases:
                        known.setdefault(one, []).append((path, name))
        found: dict[tuple[Path, str], None] = {}
        queue = [base]
        while queue:
            for entry in known.get(queue.pop(0), ()):
                if entry not in found:
                    found[entry] = None
                    queue.append(entry[1])
        return list(found)

    def _top(self, file: SourceFile) -> Path:
        """Return the folder of the outermost package that a file is in, or else its own."""
        top = file.path.parent
        for _ in file.package[1:]:
            top = top.parent
        return top

    def _siblings(self, file: SourceFile, top: Path) -> list[Path]:
        """Return the files beside a file: of its whole package, or of its folder."""
        return sorted(top.rglob("*.py") if file.package else top.glob("*.py"))[:_MOST_FILES]

    def _text(self, path: Path) -> str:
        held = self._files.get(path)
        if held is not None:
            return held.text
        try:
            return path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def _package(self, path: Path) -> tuple[str, ...]:
        parts: list[str] = []
        folder = path.parent
        while "__init__.py" in self._listing(folder) and folder.parent != folder:
            parts.insert(0, folder.name)
            folder = folder.parent
        return tuple(parts)

    def _resolve(self, file: SourceFile, module: str, level: int) -> Path | None:
        parts = module.split(".") if module else []
        if level:
            folder = file.path.parent
            for _ in range(level - 1):
                folder = folder.parent
            return self._locate(folder, parts)
        key = (file.path.parent, module)
        if key not in self._found:
            self._found[key] = self._search(file, parts)
        return self._found[key]

    def _search(self, file: SourceFile, parts: list[str]) -> Path | None:
        home = file.path.parent
        for _ in file.package:
            home = home.parent
        top = self.roots[0] if self.roots else home
        folder = home
        for _ in range(6):
            if parts[0] not in _LIBRARIES:
                for base in (folder, folder / "src"):
                    found = self._locate(base, parts)
                    if found is not None and found != file.path:
                        return found
            if folder in (top, folder.parent) or top not in folder.parents:
                break
            folder = folder.parent
        for root in self.roots:
            for base in (root, root / "src", root.parent):
                if parts[0] in _LIBRARIES and base.name != parts[0]:
                    continue
                found = self._locate(base, parts)
                if found is not None:
                    return found
        return None

    def _locate(self, folder: Path, parts: list[str]) -> Path | None:
        for part in parts[:-1]:
            if part not in self._listing(folder):
                return None
            folder /= part
        if not parts:
            return folder / "__init__.py" if "__init__.py" in self._listing(folder) else None
        names = self._listing(folder)
        if parts[-1] in names and "__init__.py" in self._listing(folder / parts[-1]):
            return folder / parts[-1] / "__init__.py"
        if f"{parts[-1]}.py" in names:
            return folder / f"{parts[-1]}.py"
        return None

    def _listing(self, folder: Path) -> frozenset[str]:
        known = self._listings.get(folder)
        if known is None:
            try:
                known = frozenset(entry.name for entry in folder.iterdir())
            except OSError:
                known = frozenset()
            self._listings[folder] = known
        return known

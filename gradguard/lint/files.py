"""Which files to lint: those named, and the Python files in the folders named."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pathspec import GitIgnoreSpec

from gradguard.config import Config

__all__ = ["Source", "Sources", "project_root"]

_SKIPPED = frozenset({"__pycache__", "__pypackages__", "node_modules", "site-packages", "venv"})
_OUTPUT = frozenset({"_build", "buck-out", "build", "dist"})
"""Folders that tools write to, unless they are packages."""

_MARKS = (".git", ".hg", "pyproject.toml", "setup.cfg", "setup.py")


@dataclass(frozen=True, slots=True)
class Source:
    """A file to lint.

    Attributes:
        path: Where it is.
        config: The settings that hold for it.
        content: What it holds, if that is not to be read from ``path``.
    """

    path: Path
    config: Config
    content: bytes | None = None


@dataclass(slots=True)
class Sources:
    """What was found under the paths that a command was given.

    Attributes:
        files: The files to lint, in the order of their paths.
        unreadable: Folders that could not be looked into, each with the reason.
        notebooks: Notebooks that were named; they are not linted yet.
    """

    files: list[Source] = field(default_factory=list)
    unreadable: list[tuple[Source, str]] = field(default_factory=list)
    notebooks: list[Path] = field(default_factory=list)

    @classmethod
    def find(
        cls,
        paths: Iterable[Path],
        overlay: Callable[[Config], Config] = lambda config: config,
        *,
        exclude: Sequence[str] = (),
        force_exclude: bool = False,
    ) -> Sources:
        """Find the files to lint.

        A file that is named is linted, whatever excludes it. In a folder every ``.py`` file is,
        save for what ``.gitignore`` files and the settings leave out, hidden folders, virtual
        environments and folders that tools write to. Links to folders are not followed, so that
        there are no loops; a file that is found twice is linted once.

        Args:
            paths: Files and folders; all of them exist.
            overlay: Lays what the command line says over a project's settings.
            exclude: Patterns of files to leave out, relative to the working folder.
            force_exclude: Leave out also files that are named, if a pattern excludes them.

        Raises:
            ConfigError: If the settings of a project cannot be read.
        """
        found = cls()
        walk = _Walk(found, overlay)
        here = _Patterns(Path.cwd(), GitIgnoreSpec.from_lines(exclude))
        for given in paths:
            path = Path(os.path.abspath(given))  # noqa: PTH100  `resolve` would lose the name.
            named_folder = path.is_dir()
            config = Config.find(path if named_folder else path.parent)
            excluded = (here, _excluded(config))
            if named_folder:
                # Whoever names a folder means it, whatever a pattern says about the folder itself.
                above = _Filter(tuple(_gitignores_above(path)), excluded)
                walk.folder(path, config, above.sparing(path))
            elif not (force_exclude and _Filter((), excluded).drops(str(path), folder=False)):
                walk.take(path, walk.laid(config))
        found.files.sort(key=lambda source: source.path.parts)
        return found


@dataclass(frozen=True, slots=True)
class _Patterns:
    """Patterns, and the folder they are relative to."""

    folder: Path
    spec: GitIgnoreSpec

    def verdict(self, path: str, *, folder: bool) -> bool | None:
        """Say whether ``path`` is left out, or ``None`` if no pattern speaks of it."""
        inside = self._inside(path, folder=folder)
        return None if inside is None else self.spec.check_file(inside).include

    def sparing(self, folder: str) -> _Patterns:
        """Return the patterns without those that leave ``folder`` itself out."""
        inside = self._inside(folder, folder=True)
        if inside is None:
            return self
        kept = [one for one in self.spec.patterns if one.match_file(inside) is None]
        return _Patterns(self.folder, GitIgnoreSpec(kept))

    def _inside(self, path: str, *, folder: bool) -> str | None:
        base = os.path.join(self.folder, "")  # noqa: PTH118  On the hot path of every file.
        if not path.startswith(base):
            return None
        inside = path[len(base) :].replace(os.sep, "/")
        return f"{inside}/" if folder else inside


@dataclass(frozen=True, slots=True)
class _Filter:
    """What is left out of a walk.

    Attributes:
        ignored: What ignore files say, the deepest last; of those that speak of a path, the last
            decides.
        excluded: What settings say; one that excludes a path is enough.
    """

    ignored: tuple[_Patterns, ...]
    excluded: tuple[_Patterns, ...]

    def drops(self, path: str, *, folder: bool) -> bool:
        """Say whether ``path`` is left out."""
        if any(patterns.verdict(path, folder=folder) for patterns in self.excluded):
            return True
        verdicts = (patterns.verdict(path, folder=folder) for patterns in reversed(self.ignored))
        return next((verdict for verdict in verdicts if verdict is not None), False)

    def sparing(self, folder: Path) -> _Filter:
        """Return the filter without the patterns that leave ``folder`` itself out."""
        return _Filter(
            tuple(one.sparing(str(folder)) for one in self.ignored),
            tuple(one.sparing(str(folder)) for one in self.excluded),
        )


@dataclass(slots=True)
class _Walk:
    """Takes files in, from the folders that are named."""

    found: Sources
    overlay: Callable[[Config], Config]
    seen: set[Path] = field(default_factory=set)
    settings: dict[Path, Config] = field(default_factory=dict)

    def laid(self, config: Config) -> Config:
        """Return a project's settings with what the command line says, the same for all files."""
        if config.root not in self.settings:
            self.settings[config.root] = self.overlay(config)
        return self.settings[config.root]

    def take(self, path: Path, config: Config) -> None:
        """Take a file in, unless it has been already."""
        real = path.resolve()
        if real in self.seen:
            return
        self.seen.add(real)
        if path.suffix == ".ipynb":
            self.found.notebooks.append(path)
        else:
            self.found.files.append(Source(path, config))

    def folder(self, path: Path, config: Config, outer: _Filter) -> None:
        """Take in the files of a folder and of those in it."""
        laid = self.laid(config)
        try:
            with os.scandir(path) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            self.found.unreadable.append((Source(path, laid), error.strerror or str(error)))
            return
        filtered = outer
        if any(entry.name == ".gitignore" for entry in entries):
            own = _patterns_in(path / ".gitignore", path)
            filtered = _Filter((*outer.ignored, *own), outer.excluded)
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if not _skipped(entry) and not filtered.drops(entry.path, folder=True):
                    self._enter(Path(entry.path), config, filtered)
            elif _is_python(entry) and not filtered.drops(entry.path, folder=False):
                self.take(Path(entry.path), laid)

    def _enter(self, path: Path, config: Config, outer: _Filter) -> None:
        own = Config.in_folder(path)
        if own is not None:
            config, outer = own, _Filter(outer.ignored, (*outer.excluded, _excluded(own)))
        self.folder(path, config, outer)


def _is_python(entry: os.DirEntry[str]) -> bool:
    # `entry.is_file()` raises for a link that leads to itself.
    return entry.name.endswith(".py") and os.path.isfile(entry.path)  # noqa: PTH113


def _skipped(entry: os.DirEntry[str]) -> bool:
    name = entry.name
    if name.startswith(".") or name in _SKIPPED:
        return True
    if name in _OUTPUT:
        return not os.path.exists(os.path.join(entry.path, "__init__.py"))  # noqa: PTH110, PTH118
    return os.path.exists(os.path.join(entry.path, "pyvenv.cfg"))  # noqa: PTH110, PTH118


def _excluded(config: Config) -> _Patterns:
    return _Patterns(config.root, GitIgnoreSpec.from_lines(config.exclude))


def _gitignores_above(folder: Path) -> Iterator[_Patterns]:
    """Yield the ignore files of the repository that ``folder`` is in, from its root downwards."""
    above = [folder, *folder.parents]
    root = next((parent for parent in above if (parent / ".git").exists()), None)
    if root is None:
        return
    yield from _patterns_in(root / ".git" / "info" / "exclude", root)
    for parent in reversed(above[1 : above.index(root) + 1]):
        yield from _patterns_in(parent / ".gitignore", parent)


def _patterns_in(path: Path, folder: Path) -> Iterator[_Patterns]:
    """Yield the patterns of an ignore file; one that git could not read either has none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    patterns = [line for line in lines if _is_pattern(line)]
    if patterns:
        yield _Patterns(folder, GitIgnoreSpec.from_lines(patterns))


def _is_pattern(line: str) -> bool:
    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return bool(line.strip()) and not line.startswith("#")


def project_root(path: Path) -> Path:
    """Return the folder of the project that ``path`` is in: where its repository or build is.

    Where nothing marks one, it is the folder itself, or the one that the file is in.
    """
    folder = path if path.is_dir() else path.parent
    for parent in (folder, *folder.parents):
        if any((parent / mark).exists() for mark in _MARKS):
            return parent
    return folder

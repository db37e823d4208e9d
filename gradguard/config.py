"""The settings of a project: the table ``[tool.gradguard]`` of its ``pyproject.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from gradguard.core.codes import UnknownCode
from gradguard.core.findings import Confidence
from gradguard.core.policy import Policy, PolicyError, suggestion
from gradguard.core.selection import expand, select

__all__ = ["Config", "ConfigError"]

FILENAME = "pyproject.toml"


class ConfigError(ValueError):
    """Raised when settings cannot be read; the message names the file and the setting."""


@dataclass(frozen=True)
class Config:
    """Settings in force: those of a project, with what the command line says laid over them.

    Attributes:
        root: The folder that patterns and source folders are relative to.
        path: The file the settings are from; ``None`` if no file speaks of gradguard.
        wanted: Words for the codes to report; ``None`` for those on by default.
        unwanted: Words for the codes not to report.
        exclude: Patterns, as in ``.gitignore``, of files to leave out.
        per_file_ignores: Pairs of a pattern and words for the codes not to report in files of it.
        min_confidence: How sure a finding must be to be reported.
        policy: What each loss may train, if it is declared.
        src: Folders from which the project's own modules are imported.

    Example:
        >>> sorted(Config(Path("."), wanted=("GG1",), unwanted=("GG102", "GG105")).codes)
        ['GG101', 'GG103', 'GG104', 'GG107', 'GG902']
    """

    root: Path
    path: Path | None = None
    wanted: tuple[str, ...] | None = None
    unwanted: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    per_file_ignores: tuple[tuple[str, tuple[str, ...]], ...] = ()
    min_confidence: Confidence = Confidence.MEDIUM
    policy: Policy | None = None
    src: tuple[Path, ...] = ()

    @classmethod
    def find(cls, folder: Path) -> Config:
        """Return the settings of the nearest ``pyproject.toml`` at or above ``folder``.

        Files without a table ``[tool.gradguard]`` are passed over. Where none has one, the
        settings are the defaults and ``folder`` is the root.

        Raises:
            ConfigError: If the file cannot be read, or says what cannot be meant.
        """
        for parent in (folder, *folder.parents):
            found = cls.in_folder(parent)
            if found is not None:
                return found
        return cls(folder)

    @classmethod
    def in_folder(cls, folder: Path) -> Config | None:
        """Return the settings that ``pyproject.toml`` in this very folder holds, if it does.

        Raises:
            ConfigError: As for :meth:`find`.
        """
        path = folder / FILENAME
        try:
            text = path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read {path}: {error}") from None
        if "gradguard" not in text:
            return None
        try:
            table = tomllib.loads(text).get("tool", {}).get("gradguard")
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path} is no valid TOML: {error}") from None
        return None if table is None else _config(table, path)

    @cached_property
    def codes(self) -> frozenset[str]:
        """The codes to report."""
        return _selected(self.wanted, self.unwanted)

    def asking(self, wanted: tuple[str, ...], unwanted: tuple[str, ...]) -> Config:
        """Return the settings with the codes that a command line asks for.

        What it wants replaces all that the file says about codes; what it does not want comes on
        top of that.

        Raises:
            UnknownCode: If a word stands for no code.
        """
        for word in (*wanted, *unwanted):
            expand(word)
        if wanted:
            return replace(self, wanted=wanted, unwanted=unwanted)
        return replace(self, unwanted=(*self.unwanted, *unwanted))

    def codes_for(self, path: Path) -> frozenset[str]:
        """Return the codes to report in the file at ``path``."""
        if not self.per_file_ignores:
            return self.codes
        from pathspec import GitIgnoreSpec

        try:
            inside = path.resolve().relative_to(self.root.resolve())
        except ValueError:
            return self.codes
        unwanted = [
            word
            for pattern, words in self.per_file_ignores
            if GitIgnoreSpec.from_lines([pattern]).match_file(inside.as_posix())
            for word in words
        ]
        return _selected(self.wanted, (*self.unwanted, *unwanted))


def _selected(wanted: tuple[str, ...] | None, unwanted: tuple[str, ...]) -> frozenset[str]:
    """Return the codes to report; that a file was not checked is said whatever is wanted."""
    return select(wanted, unwanted) | (select(None, unwanted) & {"GG902"})


def _config(table: object, path: Path) -> Config:
    if not isinstance(table, Mapping):
        raise ConfigError(f"{path}: `tool.gradguard` is a table, not {_kind(table)}")
    settings: dict[str, Any] = {}
    for key, value in table.items():
        if key not in _SETTINGS:
            known = ", ".join(sorted(_SETTINGS))
            raise ConfigError(
                f"{path}: `tool.gradguard` has no setting `{key}`"
                f"{suggestion(key, _SETTINGS)}; there are {known}"
            )
        name, read = _SETTINGS[key]
        try:
            settings[name] = read(value)
        except (ConfigError, UnknownCode, PolicyError) as error:
            raise ConfigError(f"{path}: `tool.gradguard.{key}`: {error}") from None
    settings["src"] = tuple(path.parent / folder for folder in settings.get("src", ()))
    return Config(path.parent, path, **settings)


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise ConfigError(f"a list of texts is needed, not {_kind(value)}")
    return tuple(value)


def _codes(value: object) -> tuple[str, ...]:
    words = _texts(value)
    for word in words:
        expand(word)
    return words


def _patterns(value: object) -> tuple[str, ...]:
    from pathspec import GitIgnoreSpec

    patterns = _texts(value)
    for pattern in patterns:
        try:
            GitIgnoreSpec.from_lines([pattern])
        except ValueError as error:
            raise ConfigError(f"`{pattern}` is no pattern: {error}") from None
    return patterns


def _ignores(value: object) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"a table of patterns and codes is needed, not {_kind(value)}")
    _patterns(list(value))
    return tuple((pattern, _codes(words)) for pattern, words in value.items())


def _confidence(value: object) -> Confidence:
    if value not in tuple(Confidence):
        raise ConfigError(f"one of {', '.join(Confidence)} is needed, not {_kind(value)}")
    return Confidence(str(value))


def _policy(value: object) -> Policy:
    if not isinstance(value, Mapping):
        raise ConfigError(f'a table such as {{ critic_loss = "critic" }} is needed, not {value!r}')
    return Policy.parse(value)


def _kind(value: object) -> str:
    if isinstance(value, str | int | float):
        return repr(value)
    return "a table" if isinstance(value, Mapping) else f"this {type(value).__name__}"


_SETTINGS: dict[str, tuple[str, Callable[[object], Any]]] = {
    "select": ("wanted", _codes),
    "ignore": ("unwanted", _codes),
    "exclude": ("exclude", _patterns),
    "per-file-ignores": ("per_file_ignores", _ignores),
    "min-confidence": ("min_confidence", _confidence),
    "policy": ("policy", _policy),
    "src": ("src", _texts),
}
"""Each setting as the file spells it, with the attribute it fills and the reader that checks it."""

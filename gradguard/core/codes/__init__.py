"""The catalogue of codes: one module per code, found by walking this package.

A code's module holds its documentation as the docstring and one constant ``CODE``. Whatever shows
a code to a person, on the terminal, in a report or on a page, takes its text from there.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from gradguard.core.findings import Severity

__all__ = ["HEADINGS", "Code", "UnknownCode", "catalogue", "code"]

HEADINGS = (
    "What it does",
    "Why is this bad?",
    "Example",
    "Use instead",
    "Fix safety",
    "References",
)
"""The headings of every code's documentation, in their order."""


class UnknownCode(KeyError):  # noqa: N818  The name says what is wrong already.
    """Raised when a code is asked for that the catalogue does not hold."""

    def __str__(self) -> str:
        """Show the message as written: a ``KeyError`` would show its ``repr``."""
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class Code:
    """One entry of the catalogue.

    Attributes:
        code: The stable code, such as ``GG101``; never given to anything else.
        name: The readable name, such as ``leaking-loss``; reads as "allow leaking-loss".
        severity: What a finding of this code is worth where nothing was declared about it.
        on_by_default: Whether it is reported unless somebody asks for it.
        halves: Which halves can report it: ``runtime``, ``lint`` or both.
        module: The module whose docstring documents it.
    """

    code: str
    name: str
    severity: Severity
    on_by_default: bool
    halves: tuple[str, ...]
    module: str

    @property
    def doc(self) -> str:
        """The documentation in Markdown: a summary, then a section for each of ``HEADINGS``."""
        documented = importlib.import_module(self.module)
        if documented.__doc__ is not None:
            return inspect.cleandoc(documented.__doc__)
        # `python -OO` strips docstrings; the source still has them.
        return ast.get_docstring(ast.parse(inspect.getsource(documented))) or ""

    @property
    def summary(self) -> str:
        """The first paragraph of the documentation: one sentence on one line."""
        return " ".join(self.doc.partition("\n\n")[0].split())

    def section(self, heading: str) -> str:
        """Return the text under one of ``HEADINGS``.

        Raises:
            KeyError: If the documentation has no such heading.
        """
        _, found, rest = self.doc.partition(f"\n## {heading}\n")
        if not found:
            raise KeyError(heading)
        return rest.partition("\n## ")[0].strip()


@cache
def catalogue() -> Mapping[str, Code]:
    """Return every code, in the order of the codes.

    Example:
        >>> catalogue()["GG101"].name
        'leaking-loss'
    """
    found = [
        _load(module.name) for module in pkgutil.iter_modules(__path__) if module.name[0] != "_"
    ]
    return MappingProxyType({entry.code: entry for entry in sorted(found, key=lambda e: e.code)})


def code(wanted: str) -> Code:
    """Return the entry for a code or a name, in whatever case and with ``-`` or ``_``.

    Raises:
        UnknownCode: If there is no such code; the message suggests the nearest.

    Example:
        >>> code("applied-leak").code
        'GG103'
    """
    entries = catalogue()
    by_word = {entry.code.lower(): entry for entry in entries.values()}
    by_word |= {entry.name: entry for entry in entries.values()}
    word = wanted.strip().lower().replace("_", "-")
    if word in by_word:
        return by_word[word]
    nearest = difflib.get_close_matches(word, by_word, n=1)
    hint = "run `gradguard rule --all` for the list"
    if nearest:
        entry = by_word[nearest[0]]
        hint = f"did you mean {entry.code} ({entry.name})?"
    raise UnknownCode(f"unknown code `{wanted}`: {hint}")


def _load(module: str) -> Code:
    entry = importlib.import_module(f"{__name__}.{module}").CODE
    if not isinstance(entry, Code):
        raise TypeError(f"{module}.CODE is not a Code")
    return entry

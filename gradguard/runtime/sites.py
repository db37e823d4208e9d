"""Where things happen: stacks of call sites, taken cheaply and read only when needed.

A :class:`Site` is what the interpreter knows at a call: code objects and instruction offsets. It
holds no frame and no local variable, so it prolongs no tensor's life. Turning it into lines,
columns and expressions happens on the accusing path only.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import linecache
import os
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from operator import is_
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from gradguard.core.columns import Span, place_of, span_of
from gradguard.core.findings import UNKNOWN_PLACE, Location, Place

__all__ = ["Expression", "Site", "site"]

_DEPTH = 6
_KEPT, _KEPT_ALIKE = 4096, 64
_OWN = f"{Path(__file__).resolve().parents[1]}{os.sep}"
_EXAMPLES = f"{_OWN}reference{os.sep}"
_PLUMBING = frozenset({contextlib.__file__, functools.__file__, threading.__file__})
# What calls a test: neither its variables nor its calls are the program's.
_RUNNERS = re.compile(r"[\\/]site-packages[\\/](_pytest|pluggy)[\\/]")
_internal: dict[str, bool] = {}


def _is_internal(filename: str) -> bool:
    """Say whether a file belongs to torch, to gradguard or to the interpreter's own machinery."""
    known = _internal.get(filename)
    if known is None:
        torch = sys.modules.get("torch")
        home = torch.__file__.removesuffix("__init__.py") if torch and torch.__file__ else ""
        known = (
            (bool(home) and filename.startswith(home))
            or _RUNNERS.search(filename) is not None
            or (filename.startswith(_OWN) and not filename.startswith(_EXAMPLES))
            or filename.startswith("<frozen")
            or filename in _PLUMBING
        )
        _internal[filename] = known
    return known


class Site:
    """A stack of call sites, innermost first.

    Args:
        flat: The program's code objects and instruction offsets in turn, innermost first.
        inner: The innermost library function that the program called.
        raw: The same of all frames that were looked at, by which the site is recognised.

    Attributes:
        key: Identifies the call sites of the whole stack.
        raw: What the site is recognised by.
    """

    __slots__ = ("_flat", "_inner", "key", "raw")

    def __init__(self, flat: list[Any], inner: CodeType | None, raw: list[Any]) -> None:
        """Keep what was taken."""
        self._flat = flat
        self._inner = inner
        self.key: tuple[int, ...] = (*map(id, flat[::2]), *flat[1::2])
        self.raw = raw

    @property
    def door(self) -> str:
        """Name of the innermost library function that the program called."""
        return self._inner.co_qualname if self._inner is not None else ""

    @property
    def stack(self) -> tuple[tuple[CodeType, int], ...]:
        """Code objects of the program with the offset of the instruction that was running."""
        flat = self._flat
        return tuple(zip(flat[::2], flat[1::2], strict=True))

    @property
    def place(self) -> Place:
        """The innermost place of the program."""
        return _place(*self.stack[0]) if self.stack else UNKNOWN_PLACE

    def call(self, level: int = 0) -> Expression | None:
        """Return the call expression running at ``level`` of the stack, if its source is there."""
        if level >= len(self.stack):
            return None
        code, offset = self.stack[level]
        span, _ = _read(code, offset)
        return Expression.at(code.co_filename, span) if span is not None else None


_taken: dict[tuple[int, int, int], list[Site]] = {}
"""Sites by depth, identity of the innermost code object and offset; they keep the code objects."""


def site(frame: FrameType | None, depth: int = _DEPTH, within: int = _DEPTH + 2) -> Site:
    """Take the site of ``frame``, skipping torch's and gradguard's own frames.

    The same stack gives the same object, so that sites can be compared by identity.

    Args:
        frame: Where to begin; outer frames follow.
        depth: How many of the program's frames to take at most.
        within: How many frames to look at, the library's own included. If none of the program's
            is among them, the next ones are taken.
    """
    first = frame
    raw: list[Any] = []
    for _ in _LEVELS[within]:
        if frame is None:
            break
        raw += (frame.f_code, frame.f_lasti)
        frame = frame.f_back
    if not raw:
        return _NOWHERE
    key = (depth, id(raw[0]), raw[1])
    known = _taken.get(key)
    if known is not None:
        for one in known:
            # Code objects are equal that differ in their file alone.
            if one.raw == raw and all(map(is_, one.raw[::2], raw[::2])):
                return one
    return _take(first, depth, raw, key)


_LEVELS = [range(number) for number in range(_DEPTH + 3)]
_NOWHERE = Site([], None, [])


def _take(frame: FrameType | None, depth: int, raw: list[Any], key: tuple[int, int, int]) -> Site:
    """Take a site that was not met before."""
    inner: CodeType | None = None
    flat: list[Any] = []
    for code, offset in zip(raw[::2], raw[1::2], strict=True):
        if not _is_internal(code.co_filename):
            flat += (code, offset)
        elif not flat:
            inner = code
    if flat:
        found = Site(flat[: 2 * depth], inner, raw)
        if len(_taken) >= _KEPT:
            _taken.clear()
        known = _taken.setdefault(key, [])
        known.insert(0, found)
        del known[_KEPT_ALIKE:]
        return found
    # So deep within libraries that what was looked at does not tell the program's stacks apart.
    for outer in frames_of_program(frame):
        flat += (outer.f_code, outer.f_lasti)
        if len(flat) >= 2 * depth:
            break
    return Site(flat, inner, raw)


def is_of_program(frame: FrameType) -> bool:
    """Say whether a frame runs code that is neither torch's nor gradguard's."""
    return not _is_internal(frame.f_code.co_filename)


def frames_of_program(frame: FrameType | None) -> Iterator[FrameType]:
    """Iterate over the program's own frames outwards from ``frame``."""
    while frame is not None:
        if not _is_internal(frame.f_code.co_filename):
            yield frame
        frame = frame.f_back


_known: dict[tuple[int, int], tuple[CodeType, Span | None, Place]] = {}
"""What was read, by identity of the code object, which is kept so that its identity stays its own.
"""


def _place(code: CodeType, offset: int) -> Place:
    return _read(code, offset)[1]


def _read(code: CodeType, offset: int) -> tuple[Span | None, Place]:
    """Return where an instruction stands, as the interpreter says it and as people do."""
    known = _known.get((id(code), offset))
    if known is not None and known[0] is code:
        return known[1:]
    nowhere = (None, None, None, None)
    positions = next(islice(code.co_positions(), offset // 2, None), nowhere)
    row, end_row, column, end_column = positions
    if row is None:
        span, found = None, Place(code.co_filename, Location(code.co_firstlineno, 1))
    else:
        span = row, column or 0, end_row, end_column
        found = place_of(code.co_filename, span)
    if len(_known) > 4096:
        _known.clear()
    _known[id(code), offset] = code, span, found
    return span, found


class _Source:
    """The syntax tree of one file, indexed by position."""

    def __init__(self, text: str) -> None:
        tree = ast.parse(text)
        self.nodes: dict[Span, ast.expr] = {}
        self.parents: dict[ast.AST, ast.AST] = {}
        for node in ast.walk(tree):
            for child in ast.iter_child_nodes(node):
                self.parents[child] = node
            if isinstance(node, ast.expr):
                span = span_of(node)
                known = self.nodes.get(span)
                if known is None or isinstance(node, ast.Call):
                    self.nodes[span] = node


@lru_cache(maxsize=256)
def _source(text: str) -> _Source | None:
    try:
        return _Source(text)
    except (SyntaxError, ValueError, RecursionError):
        return None


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression of the program, found from where it ran."""

    node: ast.expr
    filename: str
    source: _Source

    @classmethod
    def at(cls, filename: str, span: Span) -> Expression | None:
        """Find the expression that spans exactly ``span``; ``None`` without its source."""
        text = "".join(linecache.getlines(filename))
        source = _source(text) if text else None
        node = source.nodes.get(span) if source is not None else None
        return cls(node, filename, source) if node is not None and source is not None else None

    def __str__(self) -> str:
        """Return the expression as text."""
        return ast.unparse(self.node)

    @property
    def place(self) -> Place:
        """Where the expression stands."""
        return place_of(self.filename, span_of(self.node))

    def of(self, node: ast.expr) -> Expression:
        """Wrap another node of the same file."""
        return Expression(node, self.filename, self.source)

    @property
    def function(self) -> ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | None:
        """The innermost function around the expression."""
        node: ast.AST | None = self.node
        while node is not None:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                return node
            node = self.source.parents.get(node)
        return None

    @property
    def statement(self) -> ast.stmt | None:
        """The statement that the expression belongs to."""
        node: ast.AST | None = self.node
        while node is not None and not isinstance(node, ast.stmt):
            node = self.source.parents.get(node)
        return node

    @property
    def targets(self) -> tuple[str, ...]:
        """The names and attributes that the statement assigns the expression's value to."""
        node: ast.AST | None = self.node
        while node is not None and not isinstance(node, ast.stmt):
            if isinstance(node, ast.NamedExpr):
                return (ast.unparse(node.target),)
            parent = self.source.parents.get(node)
            if isinstance(parent, ast.Call) and node is not parent.func:
                return ()
            node = parent
        if isinstance(node, ast.Assign):
            found: list[str] = []
            for target in node.targets:
                parts = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
                found += [ast.unparse(part) for part in parts]
            return tuple(found)
        if isinstance(node, ast.AnnAssign | ast.AugAssign):
            return (ast.unparse(node.target),)
        return ()

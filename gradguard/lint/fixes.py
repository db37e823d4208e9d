"""The one plain change that makes a finding go away, tried out before it is offered."""

from __future__ import annotations

import ast
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from gradguard.core.findings import Confidence, Finding, Location, Place
from gradguard.core.fixes import Applicability, Edit, Fix, edited
from gradguard.lint.engine import Analysis, analyse
from gradguard.lint.files import Source
from gradguard.lint.inspection import source_text
from gradguard.lint.project import Project, SourceFile, Unreadable
from gradguard.lint.run import OutOfTime
from gradguard.lint.syntax import walk

__all__ = ["FIXABLE", "with_fixes"]

_DETACHED = {
    "GG101": Applicability.SAFE,
    "GG103": Applicability.UNSAFE,
    "GG104": Applicability.SAFE,
    "GG105": Applicability.UNSAFE,
    "GG107": Applicability.UNSAFE,
}
"""Findings that a ``detach()`` may settle.

It is safe where no step consumes the gradient that it keeps away: then no number changes.
"""

_CLEARED = {"GG204": Applicability.UNSAFE}
"""Findings that a ``zero_grad()`` may settle."""

FIXABLE = frozenset({*_DETACHED, *_CLEARED})

_MOST = 8
"""Changes that are tried for one finding."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A change, and what it may do besides making the finding go away."""

    fix: Fix
    cuts: bool


def with_fixes(
    findings: list[Finding], source: Source, project: Project, seconds: float
) -> list[Finding]:
    """Return the findings of one file, those with a fix that have one.

    A change is offered if the file, analysed again with it, has that finding no more, has no other
    one more, and every loss reaches what it did reach before, save for the model that the finding
    is about.

    Args:
        findings: What was found in the file.
        source: The file.
        project: Where its imports lead.
        seconds: How long to try.
    """
    wanted = [one for one in findings if _certain(one, source)]
    if not wanted:
        return findings
    deadline = time.thread_time() + seconds
    try:
        text = source_text(source.path, source.content)
        project.hold(source.path, text)
        file = project.file(source.path)
        before = analyse(source.path, project, source.config, deadline)
        fixes = {
            id(one): fix
            for one in wanted
            if (fix := _fix(one, file, before, source, project, deadline)) is not None
        }
        project.hold(source.path, text)
    except (Unreadable, OutOfTime, RecursionError):
        return findings
    return [replace(one, fix=fixes.get(id(one))) for one in findings]


def _certain(finding: Finding, source: Source) -> bool:
    return (
        finding.code in FIXABLE
        and finding.filename == str(source.path)
        and finding.confidence is Confidence.HIGH
    )


def _fix(
    finding: Finding,
    file: SourceFile,
    before: Analysis,
    source: Source,
    project: Project,
    deadline: float,
) -> Fix | None:
    tried = 0
    for attempt in _attempts(finding, file, before):
        tried += 1
        if tried > _MOST:
            break
        try:
            text = edited(file.text, attempt.fix.edits)
            project.hold(source.path, text)
            after = analyse(source.path, project, source.config, deadline)
        except Unreadable:
            continue
        if _gone(finding, before, after) and _kept(finding, before, after, cuts=attempt.cuts):
            return attempt.fix
    return None


def _gone(finding: Finding, before: Analysis, after: Analysis) -> bool:
    """Say whether a finding has gone and none has come."""
    old, new = (Counter(_key(one) for one in each.findings) for each in (before, after))
    return new[_key(finding)] < old[_key(finding)] and not new - old


def _key(finding: Finding) -> tuple[str, str, str | None, str | None]:
    return finding.filename, finding.code, finding.loss, finding.model


def _kept(finding: Finding, before: Analysis, after: Analysis, *, cuts: bool) -> bool:
    """Say whether losses reach what they did, save for what is to be cut off."""
    if len(before.reaches) != len(after.reaches):
        return False
    for old, new in zip(before.reaches, after.reaches, strict=True):
        if old.loss != new.loss or not new.parts.keys() <= old.parts.keys():
            return False
        lost = {old.parts[part] for part in old.parts.keys() - new.parts.keys()}
        meant = cuts and lost == {finding.model} and old.loss == finding.loss and new.parts
        if lost and not meant:
            return False
    return not after.misfits - before.misfits


# --- what may be changed -------------------------------------------------------------------------


def _attempts(finding: Finding, file: SourceFile, before: Analysis) -> Iterator[_Attempt]:
    if finding.code in _DETACHED:
        seen: set[int] = set()
        for node in _expressions(finding, file):
            if id(node) not in seen and _may_carry(node):
                seen.add(id(node))
                near = any(_together(node.lineno, row, file) for row in _rows(finding, file))
                safe = _DETACHED[finding.code] if near else Applicability.UNSAFE
                yield _detaching(node, file, safe)
    elif finding.code in _CLEARED:
        yield from _clearing(finding, file, before)


def _rows(finding: Finding, file: SourceFile) -> set[int]:
    """Return the rows of the places by which a finding is known, those where models work aside."""
    places = [finding.place, *(step.place for step in finding.trace[-2:])]
    return {one.location.row for one in places if one.filename == file.filename}


def _together(one: int, two: int, file: SourceFile) -> bool:
    """Say whether two rows are in the same function: what others call serves them, too."""
    return all((start <= one <= end) == (start <= two <= end) for start, end in file.spans)


def _expressions(finding: Finding, file: SourceFile) -> Iterator[ast.expr]:
    """Yield what a ``detach()`` could stand behind, from where the gradient enters outward."""
    places = [finding.place, *(step.place for step in reversed(finding.trace))]
    nodes = [node for place in places for node in _at(place, file)]
    for node in nodes:
        match node:
            case ast.Call(func=ast.Attribute(attr="backward" | "step" | "zero_grad")):
                continue
            case ast.Call():
                yield from (arg.value if isinstance(arg, ast.Starred) else arg for arg in node.args)
                yield from (keyword.value for keyword in node.keywords)
            case ast.BinOp():
                yield from _operands(node)
            case _:
                yield node
    for node in nodes:
        if isinstance(node, ast.Call) and not _is_event(node):
            yield node


def _operands(node: ast.BinOp) -> Iterator[ast.expr]:
    """Yield what an expression is computed of, the plainest first."""
    sides = (node.right, node.left)
    for side in sides:
        if isinstance(side, ast.BinOp):
            yield from _operands(side)
        else:
            yield side
    yield from (side for side in sides if isinstance(side, ast.BinOp))


def _is_event(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Attribute) and node.func.attr in (
        "backward",
        "step",
        "zero_grad",
    )


def _may_carry(node: ast.expr) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(attr="detach")):
            return False
        case ast.Name() | ast.Attribute() | ast.Subscript() | ast.Call() | ast.BinOp():
            return True
        case _:
            return False


def _at(place: Place, file: SourceFile) -> list[ast.expr]:
    """Return the expressions that stand exactly at a place, the outermost first."""
    end = place.end_location
    if place.filename != file.filename or end is None:
        return []
    return [
        node
        for node in walk(file.tree)
        if isinstance(node, ast.expr)
        and node.lineno == place.location.row
        and node.end_lineno == end.row
        and _start(node, file) == place.location
        and _end(node, file) == end
    ]


def _start(node: ast.expr | ast.stmt, file: SourceFile) -> Location:
    return Location(node.lineno, file.column(node.lineno, node.col_offset))


def _end(node: ast.expr | ast.stmt, file: SourceFile) -> Location:
    row, offset = node.end_lineno or node.lineno, node.end_col_offset or node.col_offset
    return Location(row, file.column(row, offset))


def _detaching(node: ast.expr, file: SourceFile, applicability: Applicability) -> _Attempt:
    start, end = _start(node, file), _end(node, file)
    edits: tuple[Edit, ...] = (Edit(".detach()", end, end),)
    if isinstance(node, ast.BinOp):
        edits = (Edit("(", start, start), Edit(").detach()", end, end))
    shown = " ".join(ast.unparse(node).split())
    return _Attempt(Fix(applicability, f"Detach `{shown}`", edits), cuts=True)


def _clearing(finding: Finding, file: SourceFile, before: Analysis) -> Iterator[_Attempt]:
    """Yield clears of the optimizer that steps, each before a backward pass of the trace."""
    places = [*(step.place for step in finding.trace), finding.place]
    nodes = [node for place in places for node in _at(place, file)]
    names = {
        ast.unparse(node.func.value): None
        for node in nodes
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "step"
        and not node.args
    }
    for name in names:
        for statement in _running_backward(name, file):
            if not _trains(statement, finding, file, before):
                # With nothing but what is left over, the step had better not be there.
                continue
            edit = _line_before(statement, f"{name}.zero_grad()", file)
            if edit is not None:
                fix = Fix(_CLEARED[finding.code], f"Add `{name}.zero_grad()`", (edit,))
                yield _Attempt(fix, cuts=False)


def _running_backward(name: str, file: SourceFile) -> Iterator[ast.stmt]:
    """Yield the statements by which something runs backward before an optimizer's step."""
    for block in walk(file.tree):
        for body in (getattr(block, "body", None), getattr(block, "orelse", None)):
            if not isinstance(body, list):
                continue
            for number, statement in enumerate(body):
                if ast.unparse(statement) == f"{name}.step()":
                    yield from (one for one in reversed(body[:number]) if _runs_backward(one))


def _trains(statement: ast.stmt, finding: Finding, file: SourceFile, before: Analysis) -> bool:
    """Say whether a statement puts gradient, whenever it runs, into the model of a finding."""
    last = statement.end_lineno or statement.lineno
    here = [
        reach
        for reach in before.reaches
        if reach.place[0] == file.filename and statement.lineno <= reach.place[1] <= last
    ]
    return bool(here) and all(finding.model in reach.parts.values() for reach in here)


def _runs_backward(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and any(
        isinstance(node, ast.Attribute) and node.attr in ("backward", "manual_backward")
        for node in walk(statement)
    )


def _line_before(statement: ast.stmt, line: str, file: SourceFile) -> Edit | None:
    """Return the edit that puts a line before a statement, if that begins its own."""
    rows = file.text.split("\n")
    indentation = rows[statement.lineno - 1][: _start(statement, file).column - 1]
    if indentation.strip():
        return None
    place = Location(statement.lineno, 1)
    return Edit(f"{indentation}{line}\n", place, place)

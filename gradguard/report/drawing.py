"""The path of a finding as a drawing: what runs, line by line, and where gradient goes."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

from gradguard.core.findings import Finding, TraceStep
from gradguard.core.layout import visible

__all__ = ["Arrow", "Box", "Drawing", "drawing"]

WIDTH, ROW, TOP = 320, 64, 16
LEFT, RIGHT, HEIGHT = 52, 248, 44
_FITS = 22
_QUOTED = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, slots=True)
class Box:
    """One station of the path.

    Attributes:
        kind: ``model``, ``passed``, ``loss``, ``step`` or ``line``.
        row: The line in the source; None if it is not known.
        title: The full name.
        label: As much of the name as fits.
        words: What happens there.
        y: The upper edge.
    """

    kind: str
    row: int | None
    title: str
    label: str
    words: str
    y: int


@dataclass(frozen=True, slots=True)
class Arrow:
    """Gradient from one station to another.

    Attributes:
        path: The curve, as an SVG path.
        tip: The height at which it ends.
        middle: The height of its middle.
        last: Whether it ends at the model in question.
    """

    path: str
    tip: int
    middle: int
    last: bool


@dataclass(frozen=True, slots=True)
class Drawing:
    """All that a template needs to draw a path.

    Attributes:
        kind: What is wrong with the gradient: ``leaked``, ``spilled``, ``starved``, ``unknown``.
        boxes: The stations, in the order of the program.
        arrows: The way of the gradient, from the loss on.
        height: Of the whole drawing.
        words: The same in a sentence.
    """

    kind: str
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    height: int
    words: str


def drawing(finding: Finding, models: Collection[str]) -> Drawing | None:
    """Return the drawing of a finding's path, or None if there is nothing to connect.

    Args:
        finding: The finding.
        models: The names that are models.
    """
    stations = _stations(finding, models)
    if len(stations) < 2:
        return None
    wrong = _kind(finding)
    boxes = tuple(
        Box(
            kind,
            row,
            visible(name),
            _short(visible(name)),
            _words(kind, row, wrong),
            TOP + number * ROW,
        )
        for number, (kind, row, name) in enumerate(stations)
    )
    way = _way(boxes)
    arrows = tuple(
        _arrow(one.y + HEIGHT // 2, other.y + HEIGHT // 2, other is way[-1])
        for one, other in pairwise(way)
    )
    between = " does not reach " if wrong == "starved" else " to "
    words = between.join(box.title for box in way)
    told = f"gradient of {words}" if wrong != "starved" else words
    stops = "; ".join(_told(box) for box in boxes)
    return Drawing(wrong, boxes, arrows, TOP + ROW * len(boxes), f"{told}. In the source: {stops}")


_WORDS = {
    "model": "output made",
    "passed": "passed through",
    "loss": "runs backward",
    "step": "steps",
    "line": "on the way",
}


def _words(kind: str, row: int | None, wrong: str) -> str:
    if kind == "model" and row is None:
        return {"starved": "receives none", "unknown": "reached or not"}.get(wrong, "receives it")
    return _WORDS[kind]


def _stations(finding: Finding, models: Collection[str]) -> list[tuple[str, int | None, str]]:
    found: list[tuple[str, int | None, str]] = []
    for step in finding.trace:
        station = _station(step, finding, models)
        kinds = {kind for kind, _, _ in found}
        if station[0] in kinds & {"model", "loss"}:
            station = ("line", *station[1:])
        if station not in found:
            found.append(station)
    kinds = {kind for kind, _, _ in found}
    if finding.loss and "loss" not in kinds:
        steps = [number for number, (kind, _, _) in enumerate(found) if kind == "step"]
        found.insert(min(steps, default=len(found)), ("loss", None, finding.loss))
    if finding.model and "model" not in kinds:
        found.insert(0, ("model", None, finding.model))
    return found


def _station(
    step: TraceStep, finding: Finding, models: Collection[str]
) -> tuple[str, int | None, str]:
    row, source = step.location.row, step.place.source
    if re.search(r"\bbackward\s*\(|\bgrad\s*\(", source) and finding.loss:
        return "loss", row, finding.loss
    if before := re.search(r"([\w.\[\]'\"]+)\.step\s*\(", source):
        return "step", row, before[1]
    names = _QUOTED.findall(step.message)
    if finding.model in names[:1]:
        return "model", row, finding.model or ""
    for name in names:
        if name in models and name != finding.model:
            return "passed", row, name
    return "line", row, names[0] if names else source or step.message


def _way(boxes: Sequence[Box]) -> list[Box]:
    """Return the stations that gradient visits, from the loss to the model."""
    ends = [number for number, box in enumerate(boxes) if box.kind == "loss"]
    last = ends[-1] if ends else len(boxes) - 1
    first = next((number for number, box in enumerate(boxes) if box.kind == "model"), 0)
    if first > last:
        return [boxes[last], boxes[first]]
    passed = [box for box in boxes[first + 1 : last] if box.kind == "passed"]
    return [boxes[last], *reversed(passed), boxes[first]] if first != last else []


def _arrow(begin: int, end: int, last: bool) -> Arrow:
    out = RIGHT + 44
    path = f"M{RIGHT} {begin} C{out} {begin} {out} {end} {RIGHT + 6} {end}"
    return Arrow(path, end, (begin + end) // 2, last)


def _kind(finding: Finding) -> str:
    if finding.code == "GG102":
        return "spilled"
    return {"GG3": "starved", "GG9": "unknown"}.get(finding.code[:3], "leaked")


def _told(box: Box) -> str:
    where = f" on line {box.row}" if box.row is not None else ""
    return f"{box.title} {box.words}{where}"


def _short(name: str) -> str:
    return name if len(name) <= _FITS else name[: _FITS - 1] + "…"

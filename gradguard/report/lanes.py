"""The timeline as lanes: one for each model, filled while gradient lies in its accounts."""

from __future__ import annotations

from dataclasses import dataclass

from gradguard.core.findings import Place
from gradguard.core.flow import Sign, sign_of
from gradguard.core.judgement import Kind
from gradguard.core.layout import relative, visible
from gradguard.core.timeline import Entry, Happening, Timeline

__all__ = ["Bar", "Column", "Lanes", "Mark", "lanes"]

COLUMN, LANE, TOP = 34, 36, 96
_MOST_LANES = 40
_OVERHANG = 60
"""Room for the slanted name of the last event."""
_ORDER = (Kind.OPEN, Kind.MEANT, Kind.SPILL, Kind.LEAK)


@dataclass(frozen=True, slots=True)
class Column:
    """One event: its number from 1, where it is drawn, its name and a sentence about it."""

    number: int
    x: int
    label: str
    words: str


@dataclass(frozen=True, slots=True)
class Mark:
    """What one event does in one lane; ``sign`` is set for deposits."""

    what: str
    x: int
    y: int
    sign: Sign | None
    words: str


@dataclass(frozen=True, slots=True)
class Bar:
    """The time in which gradient lies in an account."""

    x: int
    y: int
    width: int
    sign: Sign


@dataclass(frozen=True, slots=True)
class Lanes:
    """All that a template needs to draw a timeline.

    Attributes:
        models: The names of the lanes.
        columns: The events.
        bars: When gradient lies where.
        marks: What happens where.
        width: Of the drawing.
        height: Of the drawing.
        hidden: How many models have no lane, because there are too many.
    """

    models: tuple[str, ...]
    columns: tuple[Column, ...]
    bars: tuple[Bar, ...]
    marks: tuple[Mark, ...]
    width: int
    height: int
    hidden: int


def lanes(timeline: Timeline) -> Lanes:
    """Lay a timeline out."""
    touched = [
        model
        for model in timeline.models
        if any(model in entry.models for entry in timeline.entries)
    ]
    shown = touched[:_MOST_LANES]
    columns: list[Column] = []
    bars: list[Bar] = []
    marks: list[Mark] = []
    lying: dict[str, tuple[int, Kind]] = {}

    def close(model: str, end: int) -> None:
        begin, kind = lying.pop(model)
        y = TOP + shown.index(model) * LANE
        bars.append(Bar(begin, y + 10, end - begin, sign_of(kind)))

    for number, entry in enumerate(timeline.entries, 1):
        x = number * COLUMN - COLUMN // 2
        columns.append(Column(number, x, visible(_label(entry)), visible(_words(entry))))
        for model in (model for model in shown if model in entry.models):
            y = TOP + shown.index(model) * LANE + LANE // 2
            kind = entry.models[model]
            sign = sign_of(kind) if kind is not None else None
            words = f"{_label(entry)}: {visible(model)}" + (f" {sign.words}" if sign else "")
            marks.append(Mark(entry.what.value, x, y, sign, visible(words)))
            if entry.what is Happening.CLEAR and model in lying:
                close(model, x)
            elif entry.what is Happening.DEPOSIT and kind is not None:
                before = lying.get(model)
                if before is None:
                    lying[model] = x, kind
                elif _ORDER.index(kind) > _ORDER.index(before[1]):
                    close(model, x)
                    lying[model] = x, kind
    end = len(columns) * COLUMN
    for model in list(lying):
        close(model, end)
    return Lanes(
        tuple(visible(model) for model in shown),
        tuple(columns),
        tuple(bars),
        tuple(marks),
        end + _OVERHANG,
        TOP + len(shown) * LANE + 8,
        len(touched) - len(shown),
    )


def _label(entry: Entry) -> str:
    return entry.name or entry.what.value


def _words(entry: Entry) -> str:
    names = [
        f"{model} ({sign_of(kind).words})" if kind is not None else model
        for model, kind in entry.models.items()
    ]
    told = ", ".join(names) or "nothing"
    what = {
        Happening.DEPOSIT: f"{entry.name} deposits into {told}",
        Happening.CLEAR: f"cleared: {told}",
        Happening.SPEND: f"{entry.name} steps {told}",
        Happening.RESTART: "the loop begins again",
    }[entry.what]
    return what + _at(entry.place)


def _at(place: Place | None) -> str:
    if place is None or place.filename == "<unknown>":
        return ""
    return f", {relative(place.filename)}:{place.location.row}"

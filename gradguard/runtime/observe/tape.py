"""What happened, in order: turns of a loop, each kept once, and the order in which they came.

A turn ends where something else follows a step. In the steady state a loop repeats its turns, and
to note an event is to go one step down a tree of known ones. Only what is new is looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from enum import Enum

__all__ = ["Happened", "Tape", "What"]

_OFTEN = 16
"""A turn that has followed another one so often is only counted."""
_LONGEST = 4096
_MOST = 50_000


class What(Enum):
    """Kinds of events."""

    BACKWARD = "backward"
    CLEAR = "clear"
    STEP = "step"


@dataclass(frozen=True, slots=True)
class Happened:
    """An event.

    Attributes:
        what: Its kind.
        number: The passage that ran, or the optimizer that stepped.
        mask: The parameters that were cleared, or in which a step finds something.
        where: Where a step was called: an index into the places of steps.
    """

    what: What
    number: int = -1
    mask: int = 0
    where: int = -1


@dataclass(slots=True, eq=False)
class _Node:
    """A point in a turn.

    Attributes:
        events: What led here from the point before: what was noticed on the way comes first.
        after: The next points, by event.
        turn: The number of the turn that ends here, if one does.
    """

    events: tuple[Happened, ...] = ()
    above: _Node | None = None
    depth: int = 0
    after: dict[Hashable, _Node] = field(default_factory=dict)
    turn: int | None = None


class Tape:
    """Records events.

    Attributes:
        full: True if no more turns are told apart.
    """

    def __init__(self) -> None:
        """Begin at the start of a turn."""
        self._starts: dict[int, _Node] = {}
        self._turns: list[tuple[Happened, ...]] = []
        self._known: dict[tuple[Happened, ...], int] = {}
        self._order: list[tuple[int, int]] = []
        self._pairs: Counter[tuple[int, int]] = Counter()
        self._last = -1
        self._stepped = False
        self._size = 0
        self._partial = -1
        self._at = self._start()

    def _start(self) -> _Node:
        known = self._starts.get(self._last)
        if known is None:
            known = self._starts[self._last] = _Node()
        return known

    @property
    def full(self) -> bool:
        """True if no more turns are told apart."""
        return self._size > _MOST

    def follow(self, key: Hashable, *, step: bool) -> bool:
        """Go to where an event leads; say whether that is known.

        Args:
            key: Identifies the event.
            step: Whether it is a step of an optimizer.
        """
        if (self._stepped and not step) or self._at.depth > _LONGEST:
            self._end()
        self._stepped = step
        known = self._at.after.get(key)
        if known is None:
            return False
        self._at = known
        return True

    def extend(self, key: Hashable, events: tuple[Happened, ...]) -> None:
        """Note what an event that is not known comes to here."""
        if self.full:
            return
        self._size += 1
        node = _Node(events, self._at, self._at.depth + 1)
        self._at.after[key] = node
        self._at = node

    def _end(self) -> None:
        node = self._at
        if node.turn is None:
            node.turn = self._number(node)
        turn = node.turn
        pair = (self._last, turn)
        self._pairs[pair] += 1
        if self._order and self._order[-1][0] == turn:
            self._order[-1] = (turn, self._order[-1][1] + 1)
        elif self._pairs[pair] <= _OFTEN:
            self._order.append((turn, 1))
        elif self._order and self._order[-1][0] != -1:
            self._order.append((-1, 1))
        self._last = turn
        self._at = self._start()

    def _number(self, node: _Node) -> int:
        found: list[Happened] = []
        at: _Node | None = node
        while at is not None:
            found[:0] = at.events
            at = at.above
        turn = tuple(found)
        if turn not in self._known:
            self._known[turn] = len(self._turns)
            self._turns.append(turn)
        return self._known[turn]

    def close(self, *, cut: bool = False) -> None:
        """End the turn that is under way.

        Args:
            cut: Whether it might have gone on.
        """
        if self._at.depth:
            if cut and self._at.turn is None:
                self._partial = len(self._turns)
            self._end()
            self._stepped = False

    def turns(self) -> Iterator[tuple[Happened, ...]]:
        """Yield each turn once."""
        yield from self._turns

    @property
    def whole(self) -> list[bool]:
        """Whether each turn is known to have come to its end."""
        return [number != self._partial for number in range(len(self._turns))]

    def story(self) -> Iterator[tuple[tuple[Happened, ...] | None, int]]:
        """Yield the turns in order, each with how often it came in a row.

        ``None`` stands for turns that have come in this order many times before.
        """
        for turn, count in self._order:
            yield (self._turns[turn] if turn >= 0 else None), count

"""``every=N``: which backward of each call site is looked at, and when calls need no recording."""

from __future__ import annotations

from collections.abc import Hashable
from threading import get_ident

from gradguard.runtime import monitor
from gradguard.runtime.calls import Calls, sequence_number
from gradguard.runtime.graph import Graph

__all__ = ["Turns"]

_SETTLED = 2
"""A loop is known once no new call site has come for so many times as there are call sites."""


class Turns:
    """Counts the backwards of each call site.

    While none is looked at next, the models' calls need not be recorded. What they would tell is
    then missing from a graph that began before; such a look is put off, once, to the next turn.

    Args:
        every: Look at every n-th backward of each call site, beginning with the first.
        calls: The calls of the models.
    """

    def __init__(self, every: int, calls: Calls) -> None:
        """Begin with nothing counted."""
        self._every, self._calls = every, calls
        self._left: dict[Hashable, int] = {}
        self._due: set[Hashable] = set()
        self._put_off: set[Hashable] = set()
        self._known = 0
        self._awake: tuple[int, int] | None = None

    def due(self, key: Hashable) -> bool:
        """Count a backward of the call site ``key``; say whether to look at it."""
        left = self._left.get(key, 0)
        self._known = self._known + 1 if key in self._left else 0
        if left:
            self._left[key] = left - 1
            self._put_off.discard(key)
        else:
            self._left[key] = self._every - 1
            self._due.discard(key)
        if left == 1:
            self._due.add(key)
        self._rest_or_wake()
        return not left

    def puts_off(self, key: Hashable, graph: Graph) -> bool:
        """Say whether to look at the next turn instead, since calls were not recorded in time."""
        if self._awake is None or key in self._put_off:
            return False
        numbers, _ = graph.numbered
        thread, first = self._awake
        if not numbers or numbers[0] >= first or thread != get_ident():
            return False
        self._put_off.add(key)
        self._left[key] = 0
        self._due.add(key)
        self._rest_or_wake()
        return True

    def restart(self) -> None:
        """Record calls until the loop is known again."""
        self._known = 0
        self._wake()

    def _wake(self) -> None:
        if self._calls.resting:
            self._awake = get_ident(), sequence_number() if sequence_number is not None else 0
            monitor.rest(self._calls, resting=False)

    def _rest_or_wake(self) -> None:
        if self._due or self._known < _SETTLED * len(self._left):
            self._wake()
        elif not self._calls.resting:
            monitor.rest(self._calls, resting=True)

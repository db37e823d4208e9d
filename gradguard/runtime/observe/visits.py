"""Which nodes each module made: the calls of everything that holds parameters."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any

from torch import nn

from gradguard.runtime.calls import Calls, Inside, Track, here, sequence_number
from gradguard.runtime.names import called_name
from gradguard.runtime.observe.census import Branch, Census
from gradguard.runtime.registry import Registry
from gradguard.runtime.sites import site

__all__ = ["Visits"]

_NOTHING = frozenset[int]()


class Visits(Calls):
    """Records the calls of modules, of those inside library modules nothing.

    Args:
        census: Where modules are taken down at their first call.
        fail: Is told of a mistake of ours; says whether it is one.
    """

    def __init__(self, census: Census, fail: Callable[[Exception], bool]) -> None:
        """Begin without calls."""
        super().__init__(Registry({}))
        self._fail = fail
        self._census = census
        self._known: dict[int, tuple[weakref.ref[nn.Module], Branch | None, frozenset[int]]] = {}

    def forget(self) -> None:
        """Look modules up anew."""
        self._known.clear()

    def called(
        self,
        original: Callable[..., Any],
        module: nn.Module,
        args: Any,
        kwargs: Any,
        *,
        alone: bool = False,
    ) -> Any:
        """Run a call of ``module`` and record what it made."""
        known = self._known.get(id(module))
        if known is None or known[0]() is not module:
            try:
                known = self._meet(module, sys._getframe(1))
            except Exception as error:
                if not self._fail(error):
                    raise
                known = weakref.ref(module), None, _NOTHING
        branch = known[1]
        if branch is None or sequence_number is None:
            return original(module, *args, **kwargs)
        track = branch.track
        before = here.get()
        if track in before.tracks:
            return original(module, *args, **kwargs)
        quiet = known[2] if alone and known[2] else before
        here.set(Inside.of(quiet, (*before.tracks, track)))
        start = sequence_number()
        try:
            return original(module, *args, **kwargs)
        finally:
            end = sequence_number()
            here.set(before)
            # Acting and evaluating are many calls without a graph.
            # The innermost frame is the tap's.
            if end != start:
                track.add(start, end, site(sys._getframe(2), depth=3, within=4))
            elif track.silent is None:
                track.silent = site(sys._getframe(2), depth=3, within=4)

    def _meet(
        self, module: nn.Module, frame: FrameType
    ) -> tuple[weakref.ref[nn.Module], Branch | None, frozenset[int]]:
        branch = self._census.branch(module)
        if branch is None and next(module.parameters(), None) is not None:
            branch = self._census.enter(module)
            if branch is not None and not branch.names:
                name = called_name(site(frame), type(module).__name__)
                self._census.named(branch, name)
                self._census.learn(frame)
                branch = self._census.branch(module)
        quiet = _NOTHING
        if branch is not None and type(module).__module__.startswith("torch.nn."):
            inside = [inner for inner in module.modules() if inner is not module]
            if all(type(inner).__module__.startswith("torch.nn.") for inner in inside):
                quiet = frozenset(id(inner) for inner in inside)
        known = (weakref.ref(module), branch, quiet)
        self._known[id(module)] = known
        return known

    def tracks_of(self, branches: list[Branch]) -> list[Track]:
        """Return the tracks of branches."""
        return [branch.track for branch in branches]

"""Which nodes a model made: every outermost call of a model as an interval of sequence numbers.

Autograd numbers the nodes it makes, in each thread for itself. Two numbers, read before and after
a call, say which nodes the call made, whatever it returned. Nothing is put on any module.
"""

from __future__ import annotations

import sys
import threading
import weakref
from bisect import bisect_right
from collections.abc import Callable
from operator import itemgetter
from threading import get_ident
from types import FrameType
from typing import Any

import torch
from torch import nn

from gradguard.runtime.registry import Registry
from gradguard.runtime.sites import Site, site

__all__ = ["Calls", "Track", "sequence_number"]

sequence_number: Callable[[], int] | None = getattr(torch._C._autograd, "_get_sequence_nr", None)

_KEPT = 4096
_end = itemgetter(1)


class _Here(threading.local):
    """What this thread is in the middle of."""

    quiet: frozenset[int] = frozenset()


here = _Here()


class Track:
    """The calls of one model: intervals of sequence numbers, with the sites they came from.

    Attributes:
        calls: First number of each call, the number after its last, and its site; ascending
            within a thread.
        threads: The threads in which calls have made nodes.
        inside: The threads in which a call is under way.
        silent: Site of the last call that made no node, as under ``no_grad``.
    """

    __slots__ = ("calls", "inside", "silent", "threads")

    def __init__(self) -> None:
        """Begin without calls."""
        self.calls: list[tuple[int, int, Site]] = []
        self.threads: set[int] = set()
        self.inside: set[int] = set()
        self.silent: Site | None = None

    def since(self, number: int) -> list[tuple[int, int, Site]]:
        """Return the calls that ended after ``number``, the earliest first."""
        return self.calls[bisect_right(self.calls, number, key=_end) :]


class _Unit:
    """What a call of a module means.

    Attributes:
        module: The module.
        tracks: The tracks that its calls belong to.
        quiet: The modules inside it whose calls are part of its own, once that is asked for.
    """

    __slots__ = ("module", "quiet", "tracks")

    def __init__(self, module: nn.Module, tracks: tuple[Track, ...]) -> None:
        """Keep what was found; the module is held weakly."""
        self.module = weakref.ref(module)
        self.tracks = tracks
        self.quiet: frozenset[int] | None = None


class Calls:
    """Records the calls of the models of a registry.

    Attributes:
        registry: The models.
        tracks: The calls of each model.

    Args:
        registry: The models.
        learn: Called with a module that holds no known parameter when it is called outermost;
            returns the name under which it was added to the registry, or ``None``.
    """

    def __init__(
        self,
        registry: Registry,
        learn: Callable[[nn.Module, FrameType | None], str | None] | None = None,
    ) -> None:
        """Begin without calls."""
        self.registry = registry
        self.tracks: dict[str, Track] = {}
        self._learn = learn
        self._units: dict[int, _Unit] = {}

    def forget(self) -> None:
        """Classify modules anew: the accounts have changed."""
        self._units.clear()

    def _tracks_of(self, module: nn.Module, frame: FrameType | None) -> tuple[Track, ...]:
        """Return the tracks that a call of ``module`` belongs to.

        A container that wholly holds another model has no calls of its own; its children do.
        """
        if sequence_number is None or not any(True for _ in module.parameters()):
            return ()
        names, touched = self.registry.called_by(module)
        if not names and not touched and self._learn is not None:
            learned = self._learn(module, frame)
            names = [learned] if learned is not None else []
        return tuple(
            self.tracks.setdefault(name, Track())
            for name in names
            if not self._holds_a_model(module, name)
        )

    def _holds_a_model(self, module: nn.Module, name: str) -> bool:
        inner = self.registry.inside(name)
        return bool(inner) and any(
            self.registry.owned(parameter) & inner for parameter in module.parameters()
        )

    def called(
        self,
        original: Callable[..., Any],
        module: nn.Module,
        args: Any,
        kwargs: Any,
        *,
        alone: bool = False,
    ) -> Any:
        """Run a call of ``module`` and record what it made.

        Args:
            original: What to run.
            module: The module called.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
            alone: True if nobody else records, so that calls within this one need not be shown.
        """
        unit = self._units.get(id(module))
        if unit is None or unit.module() is not module:
            found = self._tracks_of(module, sys._getframe(1))
            unit = self._units[id(module)] = _Unit(module, found)
        thread = get_ident()
        tracks = unit.tracks
        for track in tracks:
            if thread in track.inside:
                tracks = tuple([track for track in tracks if thread not in track.inside])
                break
        if not tracks or sequence_number is None:
            return original(module, *args, **kwargs)
        where = site(sys._getframe(1))
        for track in tracks:
            track.inside.add(thread)
        before = here.quiet
        if alone:
            here.quiet = unit.quiet if unit.quiet is not None else self._inside(module, unit)
        start = sequence_number()
        try:
            return original(module, *args, **kwargs)
        finally:
            end = sequence_number()
            here.quiet = before
            for track in tracks:
                track.inside.discard(thread)
                if end == start:
                    track.silent = where
                    continue
                track.threads.add(thread)
                track.calls.append((start, end, where))
                if len(track.calls) >= _KEPT:
                    del track.calls[: _KEPT // 2]

    def _inside(self, module: nn.Module, unit: _Unit) -> frozenset[int]:
        """Return the modules whose calls within a call of ``module`` are part of it."""
        tracks = set(unit.tracks)
        unit.quiet = frozenset(
            id(inner)
            for inner in module.modules()
            if tracks.issuperset(self._tracks_of(inner, None))
        )
        return unit.quiet

    def offsets(self, first: int, last: int) -> tuple[Any, ...]:
        """Return where the calls since ``first`` lie relative to ``last``: equal in equal loops."""
        found: list[Any] = []
        for name, track in self.tracks.items():
            for start, end, _ in reversed(track.calls):
                if end <= first:
                    break
                found += (last - start, last - end)
            found += (name, len(track.threads))
        return tuple(found)

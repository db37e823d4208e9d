"""Which nodes a model made: every outermost call of a model as an interval of sequence numbers.

Autograd numbers the nodes it makes, in each thread for itself. Two numbers, read before and after
a call, say which nodes the call made, whatever it returned. Nothing is put on any module.
"""

from __future__ import annotations

import sys
import threading
import weakref
from bisect import bisect_left
from collections.abc import Callable
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


class _Here(threading.local):
    """What this thread is in the middle of."""

    quiet: frozenset[int] = frozenset()


here = _Here()


class Track:
    """The calls of one model: intervals of sequence numbers, with the sites they came from.

    Attributes:
        starts: First number of each call, ascending within a thread.
        ends: Number after the last of each call.
        sites: Where each call came from.
        threads: The threads in which calls have made nodes.
        inside: The threads in which a call is under way.
        silent: Site of the last call that made no node, as under ``no_grad``.
    """

    __slots__ = ("ends", "inside", "silent", "sites", "starts", "threads")

    def __init__(self) -> None:
        """Begin without calls."""
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.sites: list[Site] = []
        self.threads: set[int] = set()
        self.inside: set[int] = set()
        self.silent: Site | None = None

    def since(self, number: int) -> list[tuple[int, int, Site]]:
        """Return the calls that ended after ``number``, the earliest first."""
        first = bisect_left(self.ends, number + 1)
        return list(zip(self.starts[first:], self.ends[first:], self.sites[first:], strict=True))

    def add(self, start: int, end: int, where: Site, thread: int) -> None:
        """Take in a call, forgetting the oldest ones."""
        starts = self.starts
        starts.append(start)
        self.ends.append(end)
        self.sites.append(where)
        if thread not in self.threads:
            self.threads.add(thread)
        if len(starts) >= _KEPT:
            half = _KEPT // 2
            del self.starts[:half], self.ends[:half], self.sites[:half]


_Unit = tuple[weakref.ref[nn.Module], tuple[Track, ...], frozenset[int] | None]


class Calls:
    """Records the calls of the models of a registry.

    Attributes:
        registry: The models.
        tracks: The calls of each model.
        units: For each module seen, by identity, the tracks that its calls belong to, and the
            modules inside it whose calls are part of its own.

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
        self.units: dict[int, _Unit] = {}

    def forget(self) -> None:
        """Classify modules anew: the accounts have changed."""
        self.units.clear()

    def _tracks_of(self, module: nn.Module, frame: FrameType | None) -> tuple[Track, ...]:
        """Return the tracks that a call of ``module`` belongs to.

        A container that wholly holds another model has no calls of its own; its children do.
        """
        if not any(True for _ in module.parameters()):
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
        known = self.units.get(id(module))
        if known is None or known[0]() is not module:
            found = self._tracks_of(module, sys._getframe(1))
            known = self.units[id(module)] = (weakref.ref(module), found, None)
        thread = get_ident()
        tracks = [track for track in known[1] if thread not in track.inside]
        if not tracks or sequence_number is None:
            return original(module, *args, **kwargs)
        where = site(sys._getframe(1))
        for track in tracks:
            track.inside.add(thread)
        before = here.quiet
        if alone:
            here.quiet = known[2] if known[2] is not None else self._inside(module, known[1])
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
                else:
                    track.add(start, end, where, thread)

    def _inside(self, module: nn.Module, tracks: tuple[Track, ...]) -> frozenset[int]:
        """Return the modules whose calls within a call of ``module`` are part of it."""
        quiet = frozenset(
            id(inner)
            for inner in module.modules()
            if set(self._tracks_of(inner, None)) <= set(tracks)
        )
        self.units[id(module)] = (weakref.ref(module), tracks, quiet)
        return quiet

    def offsets(self, first: int, last: int) -> tuple[Any, ...]:
        """Return where the calls since ``first`` lie relative to ``last``: equal in equal loops."""
        found: list[Any] = []
        for name, track in self.tracks.items():
            starts, ends = track.starts, track.ends
            position = len(ends)
            while position and ends[position - 1] > first:
                position -= 1
                found += (last - starts[position], last - ends[position])
            found += (name, len(track.threads))
        return tuple(found)

"""Which nodes a model made: every outermost call of a model as an interval of sequence numbers.

Autograd numbers the nodes it makes, in each thread for itself. Two numbers, read before and after
a call, say which nodes the call made, whatever it returned. Nothing is put on any module.
"""

from __future__ import annotations

import sys
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from threading import get_ident
from types import FrameType
from typing import Any

import torch
from torch import nn

from gradguard.runtime.registry import Registry
from gradguard.runtime.sites import Site, site

__all__ = ["Calls", "Inside", "Track", "here", "sequence_number"]

sequence_number: Callable[[], int] | None = getattr(torch._C._autograd, "_get_sequence_nr", None)

_KEPT = 4096
_DEPTH = 3


class Inside(frozenset[int]):
    """What this thread is inside of.

    As a set: the modules, by identity, whose calls are part of the call under way.

    Attributes:
        tracks: The tracks of which a call is under way.
    """

    __slots__ = ("tracks",)
    tracks: tuple[Track, ...]

    @classmethod
    def of(cls, quiet: Iterable[int], tracks: tuple[Track, ...]) -> Inside:
        """Make one of the modules that are not to be shown, and the tracks."""
        inside = cls(quiet)
        inside.tracks = tracks
        return inside


_OUTSIDE = Inside.of((), ())
here: ContextVar[Inside] = ContextVar("gradguard_inside", default=_OUTSIDE)


class Track:
    """The calls of one model: intervals of sequence numbers, with the sites they came from.

    Attributes:
        starts: The first number of each call; ascending within a thread.
        ends: The number after the last of each.
        threads: The threads in which calls have made nodes.
        silent: Site of the last call that made no node, as under ``no_grad``.
    """

    __slots__ = ("_sites", "ends", "silent", "starts", "threads")

    def __init__(self) -> None:
        """Begin without calls."""
        # Numbers in lists of their own: nothing that the garbage collector has to look at.
        self.starts: list[int] = []
        self.ends: list[int] = []
        self._sites: list[Site] = []
        self.threads: set[int] = set()
        self.silent: Site | None = None

    def add(self, start: int, end: int, where: Site) -> None:
        """Take down a call of this thread that made the nodes from ``start`` to before ``end``."""
        if start == end:
            self.silent = where
            return
        self.starts.append(start)
        self.ends.append(end)
        self._sites.append(where)
        if (thread := get_ident()) not in self.threads:
            self.threads.add(thread)
        if len(self.ends) >= _KEPT:
            for numbers in (self.starts, self.ends, self._sites):
                del numbers[: _KEPT // 2]

    @property
    def last(self) -> Site | None:
        """Where the last call was that made nodes."""
        return self._sites[-1] if self._sites else None

    def since(self, number: int) -> list[tuple[int, int, Site]]:
        """Return the calls that ended after ``number``, the earliest first.

        Each is the first number of the call, the number after its last, and its site.
        """
        first = bisect_right(self.ends, number)
        parts = self.starts[first:], self.ends[first:], self._sites[first:]
        return list(zip(*parts, strict=True))


class _Unit:
    """What a call of a module means.

    Attributes:
        module: The module.
        tracks: The tracks that its calls belong to.
        inside: What a call of it is inside of, by the tracks under way when it begins.
    """

    __slots__ = ("inside", "module", "tracks")

    def __init__(self, module: nn.Module, tracks: tuple[Track, ...]) -> None:
        """Keep what was found; the module is held weakly."""
        self.module = weakref.ref(module)
        self.tracks = tracks
        self.inside: dict[tuple[Track, ...], Inside] = {}


class Calls:
    """Records the calls of the models of a registry.

    Attributes:
        registry: The models.
        tracks: The calls of each model.
        resting: True while calls need no recording.

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
        self.resting = False
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
            unit = _Unit(module, self._tracks_of(module, sys._getframe(1)))
            self._units[id(module)] = unit
        tracks = unit.tracks
        before = here.get()
        if before.tracks:
            tracks = tuple([track for track in tracks if track not in before.tracks])
        if not tracks or self.resting or sequence_number is None:
            return original(module, *args, **kwargs)
        # The innermost frame is the tap's.
        where = site(sys._getframe(2), _DEPTH, _DEPTH)
        if alone:
            found = unit.inside.get(before.tracks)
            now = found if found is not None else self._inside(module, unit, before)
        else:
            now = Inside.of(before, before.tracks + tracks)
        here.set(now)
        start = sequence_number()
        try:
            return original(module, *args, **kwargs)
        finally:
            end = sequence_number()
            here.set(before)
            for track in tracks:
                track.add(start, end, where)

    def _inside(self, module: nn.Module, unit: _Unit, before: Inside) -> Inside:
        """Return what a call is inside of: modules that belong to no other track are its part."""
        tracks = {*before.tracks, *unit.tracks}
        quiet = [
            id(inner)
            for inner in module.modules()
            if tracks.issuperset(self._tracks_of(inner, None))
        ]
        now = unit.inside[before.tracks] = Inside.of(quiet, tuple(tracks))
        return now

    def edges(self, number: int) -> tuple[list[int], list[Any]]:
        """Return where the calls that ended after ``number`` begin and end.

        Returns:
            These numbers, model by model; and for each model, how many of its calls there are and
            how many threads have called it.
        """
        numbers: list[int] = []
        counts: list[Any] = []
        for name, track in self.tracks.items():
            ends = track.ends
            first = bisect_right(ends, number)
            numbers += track.starts[first:]
            numbers += ends[first:]
            counts += (name, len(ends) - first, len(track.threads))
        return numbers, counts

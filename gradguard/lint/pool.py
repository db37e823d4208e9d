"""Processes that inspect files, and that may crash or hang without harm to the others."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from gradguard.lint.files import Source
from gradguard.lint.inspection import GRACE, SLOWED, Inspection, inspect, unreadable
from gradguard.lint.project import Project

__all__ = ["inspect_in_parallel"]

_AHEAD = 4
"""Files that a worker is given in advance, so that it never waits for the next."""


@dataclass(slots=True)
class _Worker:
    """A process, and the files that it was given and has not answered for."""

    process: BaseProcess
    connection: Connection
    given: deque[int] = field(default_factory=deque)
    since: float = 0.0


def inspect_in_parallel(
    sources: Sequence[Source], roots: Sequence[Path], workers: int, time_limit: float
) -> list[Inspection]:
    """Inspect files in several processes; return what came of each, in the order of ``sources``.

    A process that dies or hangs costs the file that it was at, which is reported as unreadable.

    Args:
        sources: The files.
        roots: Where imports of the project lead.
        workers: How many processes to start.
        time_limit: Seconds after which a file is given up.
    """
    return _Pool(sources, roots, time_limit).run(workers)


class _Pool:
    def __init__(self, sources: Sequence[Source], roots: Sequence[Path], limit: float) -> None:
        self.sources = sources
        self.roots = tuple(roots)
        self.limit = limit
        self.results: list[Inspection | None] = [None] * len(sources)
        self.waiting = deque(range(len(sources)))
        self.workers: list[_Worker] = []
        self.context = _context()

    def run(self, count: int) -> list[Inspection]:
        try:
            for _ in range(count):
                self._start()
            while self.workers:
                self._turn()
        finally:
            for worker in self.workers:
                worker.process.kill()
            for worker in self.workers:
                worker.process.join()
                worker.connection.close()
        return [result for result in self.results if result is not None]

    def _start(self) -> None:
        ours, theirs = self.context.Pipe()
        arguments = (theirs, self.sources, self.roots, self.limit)
        process = self.context.Process(target=_work, args=arguments, daemon=True)  # type: ignore[attr-defined]
        process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self.workers.append(worker)
        self._give(worker)

    def _give(self, worker: _Worker) -> None:
        """Fill up what a worker has to do, or let it go if there is nothing."""
        if not worker.given:
            worker.since = time.monotonic()
        with contextlib.suppress(OSError):  # That it is dead is noticed when it is listened to.
            while self.waiting and len(worker.given) < _AHEAD:
                worker.given.append(self.waiting.popleft())
                worker.connection.send(worker.given[-1])
            if not worker.given:
                worker.connection.send(None)
                self._retire(worker)

    def _retire(self, worker: _Worker) -> None:
        self.workers.remove(worker)
        worker.process.join()
        worker.connection.close()

    def _turn(self) -> None:
        """Take in what workers have to say; replace those that have died or do not end."""
        patience = SLOWED * self.limit + 3 * GRACE
        ready = wait([worker.connection for worker in self.workers], timeout=GRACE)
        for worker in list(self.workers):
            if worker.connection in ready:
                self._listen(worker)
            elif worker.given and time.monotonic() - worker.since > patience:
                self._replace(worker, f"takes longer than {self.limit:g} s to check")

    def _listen(self, worker: _Worker) -> None:
        try:
            result = worker.connection.recv()
        except (EOFError, OSError):
            self._replace(worker, "cannot be checked: the process that did it died")
            return
        self.results[worker.given.popleft()] = result
        worker.since = time.monotonic()
        self._give(worker)

    def _replace(self, worker: _Worker, reason: str) -> None:
        worker.process.kill()
        self._retire(worker)
        if worker.given:
            lost = worker.given.popleft()
            self.results[lost] = unreadable(self.sources[lost].path, reason)
            self.waiting.extendleft(reversed(worker.given))
        if self.waiting:
            self._start()


def _context() -> BaseContext:
    """Return the cheapest way to start a process that is safe here."""
    forks = sys.platform == "linux" and threading.active_count() == 1
    if forks and not {"torch", "numpy"} & sys.modules.keys():  # Their threads do not show.
        return multiprocessing.get_context("fork")
    return multiprocessing.get_context("spawn")


def _work(
    connection: Connection, sources: Sequence[Source], roots: Sequence[Path], limit: float
) -> None:
    """Inspect the files whose numbers arrive, until ``None`` does or nobody is there any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The process that asked decides when to end.
    parent = os.getppid()
    project = Project(roots)
    with contextlib.suppress(EOFError, OSError):
        while True:
            while not connection.poll(1.0):
                if os.getppid() != parent:
                    return
            number = connection.recv()
            if number is None:
                return
            connection.send(inspect(sources[number], project, limit))

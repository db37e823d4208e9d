"""Told of everything that happens to gradients; takes it down, and looks closely at what is new."""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, Concatenate, ParamSpec, TypeVar

from torch import Tensor, nn
from torch.optim import Optimizer

from gradguard.runtime import monitor
from gradguard.runtime.balance import skipped_for_inf
from gradguard.runtime.calls import Calls
from gradguard.runtime.monitor import Pass
from gradguard.runtime.names import optimizer_name
from gradguard.runtime.observe.arrivals import Arrivals
from gradguard.runtime.observe.census import Census, bits
from gradguard.runtime.observe.declared import Declared
from gradguard.runtime.observe.oddities import Oddities
from gradguard.runtime.observe.passages import Passage, Reader
from gradguard.runtime.observe.tape import Happened, Tape, What
from gradguard.runtime.observe.visits import Visits
from gradguard.runtime.proof import has_value
from gradguard.runtime.sites import Site, is_of_program, site

__all__ = ["Observer"]

_STANDARD = f"{sysconfig.get_path('stdlib')}{os.sep}"
_Given = ParamSpec("_Given")
_Answer = TypeVar("_Answer")


def _careful(
    otherwise: _Answer,
) -> Callable[
    [Callable[Concatenate[Observer, _Given], _Answer]],
    Callable[Concatenate[Observer, _Given], _Answer],
]:
    """Let a mistake of ours end the observation, not the program.

    What a signal handler of the program raises meanwhile is the program's, and reaches it.
    """

    def wrap(
        method: Callable[Concatenate[Observer, _Given], _Answer],
    ) -> Callable[Concatenate[Observer, _Given], _Answer]:
        @functools.wraps(method)
        def run(observer: Observer, /, *args: _Given.args, **kwargs: _Given.kwargs) -> _Answer:
            try:
                return method(observer, *args, **kwargs)
            except Exception as error:
                if not observer.fail(error):
                    raise
                return otherwise

        return run

    return wrap


class Observer:
    """Watches a whole program, raises nothing and changes nothing.

    Args:
        declared: The losses and models that a policy names.
        every: Read at every n-th backward of each call site.
        steps: Stop after so many optimizer steps.

    Attributes:
        guarded: Whether a guard of the program's own was active at some backward.
        failure: What went wrong in here and ended the observation, if anything did.
    """

    observes = True

    def __init__(self, declared: Declared, *, every: int = 1, steps: int | None = None) -> None:
        """Begin with nothing seen."""
        self.census = Census()
        self.calls: Calls = Visits(self.census, self.fail)
        self.reader = Reader(self.census, declared.losses)
        self.tape = Tape()
        self.declared = declared
        self.oddities = Oddities(self.census)
        self.places: list[Site] = []
        self._every = every
        self._left = steps
        self._enough = False
        self._turns: dict[tuple[int, ...], tuple[int, Passage]] = {}
        self._pending: dict[Pass, tuple[Passage, Arrivals | None]] = {}
        self._places: dict[tuple[int, ...], int] = {}
        self._lying = 0
        self._touched = 0
        self._written: dict[int, int] = {}
        self._active = False
        self.guarded = False
        self._restore: Callable[[], None] | None = None
        self.failure: str | None = None

    # Installing

    def begin(self) -> None:
        """Install the taps."""
        monitor.attach(self)
        self._active = True
        built = Optimizer.__init__
        observer = self

        @functools.wraps(built)
        def __init__(optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            built(optimizer, *args, **kwargs)
            observer.constructed(optimizer, sys._getframe(1))

        def restore() -> None:
            if Optimizer.__init__ is __init__:
                Optimizer.__init__ = built  # type: ignore[method-assign]

        Optimizer.__init__ = __init__  # type: ignore[method-assign, assignment]
        self._restore = restore

    def end(self, *, cut: bool = False) -> None:
        """Remove the taps.

        Args:
            cut: Whether the program was stopped short, wherever it happened to be.
        """
        if not self._active:
            return
        self.abandon()
        self.tape.close(cut=cut)

    def abandon(self) -> None:
        """Remove the taps, and leave what was seen as it is."""
        if not self._active:
            return
        self._active = False
        if self._restore is not None:
            self._restore()
        monitor.detach(self)

    def fail(self, error: Exception) -> bool:
        """End the observation for a mistake that is ours; say whether it is."""
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        if any(is_of_program(frame) and not _is_standard(frame) for frame in frames):
            return False
        last = frames[-1].f_code
        self.failure = f"{type(error).__name__}: {error} (in {last.co_qualname})"
        self.end(cut=True)
        return True

    @_careful(None)
    def constructed(self, optimizer: Optimizer, frame: FrameType) -> None:
        """Take an optimizer down where it is constructed."""
        if not self._active:
            return
        number = self.census.holding(optimizer)
        held = self.census.optimizers[number]
        held.made = site(frame)
        self.census.learn(frame)
        self.census.constructed(number)
        self.declared.resolve(frame, self.census)

    # Backward passes

    @_careful(False)
    def before_backward(self, run: Pass) -> bool:
        """Read a backward pass by its graph."""
        self._stop_if_enough()
        if not run.roots or not self._active:
            return False
        self.guarded |= not monitor.active()[0].observes
        key = run.site.key
        if self._every > 1:
            count, last = self._turns.get(key, (0, None))
            if last is not None and count % self._every:
                self._turns[key] = count + 1, last
                self._note_backward(last)
                return False
        passage = self.reader.read(run)
        if self._every > 1:
            self._turns[key] = self._turns.get(key, (0, passage))[0] + 1, passage
        passage.count += 1
        if passage.count == 1:
            self.declared.resolve(run.frame, self.census)
            self.oddities.look_at_leaves(run, passage)
        elif not passage.whole.reach and not passage.blind:
            self._note_backward(passage)
            return False
        known = self._note_backward(passage)
        look = passage.count >= passage.look and passage.live | passage.dead != passage.whole.reach
        if not (look or passage.blind or not known):
            return True
        arrivals = Arrivals(self.census, passage, run) if look or passage.blind else None
        self._pending[run] = passage, arrivals
        return True

    @_careful(None)
    def after_backward(self, run: Pass, error: BaseException | None) -> None:
        """See what a backward pass has really written."""
        pending = self._pending.pop(run, None)
        if error is not None:
            if pending is not None and pending[1] is not None:
                pending[1].close()
            self.oddities.failed(run, error)
            return
        if pending is None:
            return
        passage, arrivals = pending
        if arrivals is not None:
            arrivals.settle()
            passage.look = max(2, passage.count * 2)
        for number in bits(passage.arrives):
            parameter = self.census.parameters[number]()
            if parameter is not None:
                self._written[number] = id(parameter.grad)
        self._lying |= passage.arrives

    def _note_backward(self, passage: Passage) -> bool:
        """Take a backward down; say whether it was known to come here."""
        key = ("backward", passage.number)
        known = self.tape.follow(key, step=False)
        if not known:
            gone = self._gone(self._lying & passage.whole.reach, values=True)
            self._cleared(gone)
            events = [Happened(What.BACKWARD, passage.number)]
            if gone:
                events.insert(0, Happened(What.CLEAR, mask=gone))
            self.tape.extend(key, tuple(events))
        self._lying |= passage.arrives
        self._touched |= passage.arrives
        return known

    # Accounts

    def _gone(self, mask: int, *, values: bool) -> int:
        """Return the parameters in which nothing of what was put there lies any more."""
        gone = 0
        for number in bits(mask):
            parameter = self.census.parameters[number]()
            if (
                parameter is None
                or parameter.grad is None
                or (number in self._written and self._written[number] != id(parameter.grad))
                or (values and not has_value(parameter.grad))
            ):
                gone |= 1 << number
        return gone

    def _cleared(self, mask: int) -> None:
        self._lying &= ~mask

    @_careful(None)
    def cleared(self, holder: Optimizer | nn.Module) -> None:
        """Take note that the gradients of an optimizer or a module were cleared."""
        self._stop_if_enough()
        if not self._active:
            return
        census = self.census
        if isinstance(holder, Optimizer):
            mask = census.optimizers[census.holding(holder)].now
        else:
            mask = census.mask_of(holder.parameters())
        if not mask:
            return
        key = ("clear", mask)
        if not self.tape.follow(key, step=False):
            self.tape.extend(key, (Happened(What.CLEAR, mask=mask),))
        self._cleared(mask)
        self._touched &= ~mask

    # Steps

    @property
    def coasting(self) -> bool:
        """True if some step under way must be looked at again afterwards."""
        return self._active and (bool(self.oddities.coasting) or self.oddities.wants_after)

    @_careful(None)
    def before_step(self, optimizer: Optimizer, frame: FrameType | None) -> None:
        """Take note of what an optimizer is about to spend."""
        if not self._active:
            return
        census = self.census
        number = census.holding(optimizer)
        held = census.optimizers[number]
        where = self._place(site(frame, depth=2, within=4))
        held.steps += 1
        self.oddities.stepping(number)
        if held.steps == 1:
            name = self._named(optimizer, number, self.places[where])
            held.name = name
            census.learn(frame, depth=2)
            self.declared.resolve(frame, census)
        key = ("step", number, where)
        if not self.tape.follow(key, step=True):
            self._new_step(optimizer, number, where, key)
        if self._left is not None:
            self._left -= 1
            # Other optimizers may step for the same loss: without them it looks misdirected.
            self._enough = self._left <= 0

    def _stop_if_enough(self) -> None:
        """Stop where the turn is over in which the last step to be observed lay."""
        if self._enough:
            self.end()

    @_careful(None)
    def after_step(self, optimizer: Optimizer) -> None:
        """See whether a step has moved what no loss put gradient into."""
        self.oddities.stepped(self.census.holding(optimizer))

    def _new_step(
        self, optimizer: Optimizer, number: int, where: int, key: tuple[object, ...]
    ) -> None:
        census = self.census
        held = census.optimizers[number]
        if held.steps < 3:
            self.oddities.look_at_attributes(held.now)
        if skipped_for_inf(optimizer):
            self.tape.extend(key, ())
            return
        gone = self._gone(self._lying & held.now, values=True)
        self._cleared(gone)
        events = [Happened(What.STEP, number, self._lying & held.now, where)]
        if gone:
            events.insert(0, Happened(What.CLEAR, mask=gone))
        self.tape.extend(key, tuple(events))
        # What a loss has put there may well be zero: a mask that is empty, a factor that is zero.
        unfed = held.now & ~self._touched
        coasting: list[Tensor] = []
        for one in bits(unfed):
            parameter = census.parameters[one]()
            if parameter is None or parameter.grad is None:
                continue
            if has_value(parameter.grad):
                self.oddities.fed_by_hand |= 1 << one
            else:
                coasting.append(parameter)
        if coasting:
            self.oddities.coast(number, where, coasting)

    def _place(self, where: Site) -> int:
        known = self._places.get(where.key)
        if known is None:
            known = self._places[where.key] = len(self.places)
            self.places.append(where)
        return known

    def _named(self, optimizer: Optimizer, number: int, where: Site) -> str:
        held = self.census.optimizers[number]
        targets: Iterable[str] = ()
        if held.made is not None:
            call = held.made.call()
            targets = call.targets if call is not None else ()
        named = list(targets)
        if len(named) == 1:
            return named[0]
        return optimizer_name(where, type(optimizer).__name__)


def _is_standard(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    return name.startswith(_STANDARD) and "site-packages" not in name

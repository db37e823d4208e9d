"""Backward passes under one guard: read, proved, refused or posted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gradguard.core.events import Backward
from gradguard.core.findings import Finding, IsolationError
from gradguard.core.suppressions import unsilenced
from gradguard.core.verdicts import Moment
from gradguard.runtime.memory import Memory, Touched
from gradguard.runtime.monitor import Pass
from gradguard.runtime.parts import Part, Reader
from gradguard.runtime.proof import Vault
from gradguard.runtime.proving import Prover
from gradguard.runtime.turns import Turns

if TYPE_CHECKING:
    from gradguard.runtime.watch import Watch

__all__ = ["Passes"]


@dataclass(slots=True)
class _Pending:
    """A backward pass on its way: what is still to be posted, and the gradients set aside."""

    parts: list[Part]
    posted: bool = False
    vault: Vault | None = None


class Passes:
    """Judges backward passes.

    Args:
        watch: The guard's eyes that this is a part of.
    """

    def __init__(self, watch: Watch) -> None:
        """Begin with nothing remembered."""
        self._watch = watch
        self._pending: dict[Pass, _Pending | Memory] = {}
        self._memory: dict[tuple[Any, ...], Memory] = {}
        self._last: dict[tuple[Any, ...], tuple[Backward, ...]] = {}
        self._turns = Turns(watch.every, watch.calls) if watch.every > 1 else None
        self._reader, self._prover = Reader(watch), Prover(watch)

    def forget(self) -> None:
        """Forget what passes were found to mean: the accounts have changed."""
        self._memory.clear()
        self._last.clear()
        if self._turns is not None:
            self._turns.restart()

    def leave(self) -> None:
        """Let go of passes that are under way."""
        self._pending.clear()
        if self._turns is not None:
            self._turns.restart()

    def before(self, run: Pass) -> bool:
        """Judge a backward pass by its graph before it writes anything.

        Returns:
            Whether to look at what it has written.
        """
        watch, inputs = self._watch, run.inputs
        key = (
            watch.losses.current,
            inputs if inputs is None else tuple(map(id, inputs)),
            run.site.key,
        )
        turns, last = self._turns, self._last.get(key)
        if turns is not None and not turns.due(key) and last is not None:
            self._repeat(last)
            return False
        roots = run.roots
        if not roots:
            # Autograd will refuse it in its own words.
            return False
        known = self._memory.get(key)
        if known is not None and known.fits(roots, watch.calls, watch.losses.marks):
            self._repeat(known.events)
            if not known.foreign:
                return False
            self._pending[run] = known
            return True
        if turns is not None and turns.puts_off(key, run.graph):
            self._repeat(last or ())
            return False
        parts = self._read(run)
        self._refuse(parts)
        pending = self._pending[run] = _Pending(parts, vault=_vault(parts))
        if not any(part.open or part.hidden for part in parts):
            self._post(pending)
        if turns is not None:
            self._last[key] = tuple([replace(part.event, assumed=True) for part in parts])
        self._remember(key, parts, run)
        return True

    def after(self, run: Pass, error: BaseException | None) -> None:
        """See what a backward pass has really written, and put back what it must not have."""
        pending = self._pending.pop(run, None)
        if pending is None:
            return
        if error is not None:
            if isinstance(pending, _Pending) and pending.vault is not None:
                pending.vault.close()
        elif isinstance(pending, Memory):
            self._watch.balance.touch(pending.foreign)
        else:
            self._finish(pending)

    def _finish(self, pending: _Pending) -> None:
        refused, back = self._settled(pending)
        if pending.vault is not None:
            pending.vault.close(back)
        if not pending.posted:
            self._post(pending)
        self._watch.balance.touch(_foreign(pending.parts))
        if refused:
            raise IsolationError(refused)

    def _repeat(self, events: Sequence[Backward]) -> None:
        """Post events that have come before."""
        watch = self._watch
        if not events:
            return
        if watch.ledger.again(events, watch.registry.empty):
            return
        for event in events:
            watch.balance.settle(event)
        for number, event in enumerate(events):
            watch.act(watch.ledger.post(event, joint=number > 0), Moment.NEVER)

    def _remember(self, key: tuple[Any, ...], parts: list[Part], run: Pass) -> None:
        """Keep what the pass means, if it will mean the same when it comes again."""
        watch = self._watch
        for part in parts:
            settled = not (part.open or part.hidden or part.acquitted)
            if not settled or watch.ledger.missing(part.event.loss, part.arrivals):
                return
        events = [part.event for part in parts]
        foreign = _foreign(parts)
        marks = watch.losses.marks
        self._memory[key] = Memory(events, run.graph, watch.calls, marks, foreign)

    def _read(self, run: Pass) -> list[Part]:
        """Read what each loss of a pass reaches, and prove what it is accused of."""
        watch = self._watch
        direct = len(watch.losses.direct)
        parts, rest = self._reader.read(run)
        if len(watch.losses.direct) != direct:
            # What has a backward of its own is no term of another loss any more.
            self._memory.clear()
        for part in parts:
            watch.balance.settle(part.event)
            self._prover.prove(part, run, alone=len(parts) == 1)
            self._prover.explain(part, run)
        return [*parts, *rest]

    def _refuse(self, parts: list[Part]) -> None:
        """Raise for proved leaks before the backward writes anything."""
        if self._watch.raises:
            refused = [f for part in parts if not part.open for f in self._leaks(part.event)]
            if refused:
                raise IsolationError(refused)

    def _leaks(self, event: Backward) -> list[Finding]:
        """Find the leaks of a backward whose foreign deposits are refused."""
        if not self._prover.leaks(event):
            return []
        sightings = self._watch.ledger.post(event, landed=False)
        return unsilenced(
            s.finding for s in sightings if s.verdict.raises is Moment.BEFORE_BACKWARD
        )

    def _settled(self, pending: _Pending) -> tuple[list[Finding], list[Tensor]]:
        """Settle what was open; return what is refused, and the parameters to put back."""
        refused: list[Finding] = []
        back: list[Tensor] = []
        for part in pending.parts:
            self._prover.resolve(part, pending.vault)
            if self._watch.raises and not pending.posted:
                accusations = self._prover.leaks(part.event)
                found = self._leaks(part.event)
                wronged = {finding.model for finding in found}
                accused = {one.account for one in accusations if one.model in wronged}
                refused += found
                part.drop(accused)
                back += [leaf for account in accused for leaf in part.arrivals[account].leaves]
        return refused, back

    def _post(self, pending: _Pending) -> None:
        pending.posted = True
        watch = self._watch
        for number, part in enumerate(pending.parts):
            watch.act(watch.ledger.post(part.event, joint=number > 0), Moment.NEVER)


def _vault(parts: list[Part]) -> Vault | None:
    aside = [
        leaf for part in parts for account in part.open for leaf in part.arrivals[account].leaves
    ]
    aside += [leaf for part in parts if part.hidden for leaf in part.hidden.set_aside]
    return Vault(aside) if aside else None


def _foreign(parts: Iterable[Part]) -> list[Touched]:
    """Return what losses may not train and have reached."""
    return [
        Touched(part.event.loss, deposit.account, part.arrivals[deposit.account].leaves)
        for part in parts
        for deposit in part.event.deposits
        if deposit.evidence is not None and deposit.account in part.arrivals
    ]

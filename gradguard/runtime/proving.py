"""What a backward pass is suspected of: proved beforehand, or by what it has really written."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradguard.core.events import Account, Backward, Evidence
from gradguard.core.judgement import Accusation
from gradguard.core.verdicts import Saw
from gradguard.runtime.evidence import Accused
from gradguard.runtime.monitor import Pass
from gradguard.runtime.parts import Part
from gradguard.runtime.proof import Answer, Vault, ask, can_set_aside
from gradguard.runtime.reach import Arrival

if TYPE_CHECKING:
    from gradguard.runtime.watch import Watch

__all__ = ["Prover"]

_LEAKS = (Saw.LEAK, Saw.LIVE_SHADOW)


class Prover:
    """Proves what the losses of backward passes are accused of, and explains it.

    Args:
        watch: The guard's eyes that this is a part of.
    """

    def __init__(self, watch: Watch) -> None:
        """Begin with nothing explained."""
        self._watch = watch
        self._paths: dict[tuple[Any, ...], Evidence] = {}

    def leaks(self, event: Backward) -> list[Accusation]:
        """Return the leaks that an event would show."""
        preview = self._watch.ledger.preview(event)
        return [accusation for accusation in preview if accusation.saw in _LEAKS]

    def prove(self, part: Part, run: Pass, *, alone: bool) -> None:
        """Confirm each leak once, or leave it open until the backward has run."""
        docket = self._watch.docket
        acquitted: set[Account] = set()
        for accusation in self.leaks(part.event):
            key = (accusation.loss, accusation.model, *run.site.key)
            if docket.proved(key):
                continue
            answer = Answer.NONE
            if docket.due(key):
                answer = self._ask(part, part.arrivals[accusation.account], run, alone=alone)
                if answer is Answer.OPEN:
                    part.open[accusation.account] = key
                elif answer is Answer.LIVE:
                    docket.prove(key)
                else:
                    docket.acquit(key)
            if answer is Answer.ZERO:
                self._watch.zero.add((accusation.loss, accusation.model))
            if answer in (Answer.ZERO, Answer.NONE):
                acquitted.add(accusation.account)
        if acquitted:
            part.acquitted = True
            part.drop(acquitted)

    def _ask(self, part: Part, arrival: Arrival, run: Pass, *, alone: bool) -> Answer:
        """Ask autograd for a proof, or answer ``OPEN`` to let the real backward give it."""
        aside = can_set_aside(arrival.leaves) and not run.create_graph
        outputs = part.named.outputs if part.named is not None else None
        if alone and outputs is None and aside and not self._watch.raises:
            return Answer.OPEN
        kept = self._watch.registry.modules()
        answer = ask(run.outputs, run.gradients, arrival.leaves, kept)
        if answer is Answer.LIVE and outputs is not None:
            answer = ask(outputs, None, arrival.leaves, kept)
        return Answer.LIVE if answer is Answer.OPEN and not aside else answer

    def explain(self, part: Part, run: Pass) -> None:
        """Give each foreign deposit its path, worked out once for each loss, model and place."""
        watch = self._watch
        paths: dict[Account, Evidence] = {}
        accusations = watch.ledger.preview(part.event)
        reached: Counter[str] = Counter()
        for accusation in accusations:
            reached[accusation.model] += len(part.arrivals[accusation.account].leaves)
        for accusation in accusations:
            key = (accusation.loss, accusation.model, *run.site.key)
            if key not in self._paths:
                self._paths[key] = Accused(
                    loss=accusation.loss,
                    model=accusation.model,
                    passes=accusation.saw is Saw.SPILL,
                    arrival=part.arrivals[accusation.account],
                    reached=reached[accusation.model],
                    graph=part.graph,
                    calls=watch.calls,
                    registry=watch.registry,
                    where=run.site,
                    frame=run.frame,
                ).evidence()
            paths[accusation.account] = self._paths[key]
        if paths:
            deposits = (
                replace(deposit, evidence=paths.get(deposit.account))
                for deposit in part.event.deposits
            )
            part.event = replace(part.event, deposits=tuple(deposits))

    def resolve(self, part: Part, vault: Vault | None) -> None:
        """Settle what was open by what the backward has written."""
        docket, zero = self._watch.docket, self._watch.zero
        innocent: set[Account] = set()
        for account, key in part.open.items():
            answer = vault.look(part.arrivals[account].leaves) if vault else Answer.LIVE
            if answer is Answer.LIVE:
                docket.prove(key)
                continue
            docket.acquit(key)
            innocent.add(account)
            if answer is Answer.ZERO:
                zero.update((part.event.loss, owner) for owner in account.owners)
        if innocent:
            part.drop(innocent)
        if part.hidden is not None:
            part.event, reached = part.hidden.found(part.event, docket)
            for account in part.hidden.zero:
                zero.update((part.event.loss, owner) for owner in account.owners)
            for account, leaves in reached.items():
                part.arrivals[account] = Arrival(account, leaves=leaves, sure=False)

"""Backward passes under one guard: read, proved, refused or posted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gradguard.core.events import Account, Backward, Deposit, Evidence, Holder
from gradguard.core.findings import Finding, IsolationError
from gradguard.core.judgement import Accusation, Kind, classify
from gradguard.core.policy import Rule, Stance
from gradguard.core.suppressions import unsilenced
from gradguard.core.verdicts import Moment, Saw
from gradguard.runtime.evidence import Accused
from gradguard.runtime.graph import Graph, roots_of
from gradguard.runtime.hidden import Hidden, hidden_key
from gradguard.runtime.learn import optimizers_alive
from gradguard.runtime.losses import Named
from gradguard.runtime.memory import Memory, Touched
from gradguard.runtime.monitor import Pass
from gradguard.runtime.proof import Answer, Vault, ask, can_set_aside
from gradguard.runtime.reach import Arrival, Reading

if TYPE_CHECKING:
    from gradguard.runtime.watch import Watch

__all__ = ["Passes"]

_LEAKS = (Saw.LEAK, Saw.LIVE_SHADOW)


@dataclass(slots=True)
class _Part:
    """One loss of a backward pass.

    Attributes:
        named: Its name and roots; ``None`` for what no named term accounts for.
        graph: The graph below it.
        reading: What it reaches.
        event: That as an event, once it is made.
        open: The suspicions left to the real backward, by account.
        hidden: What the graph does not show, if it is blind.
        acquitted: True if a suspicion was dropped, so that the event must be made anew each time.
    """

    named: Named | None
    graph: Graph
    reading: Reading
    event: Backward
    open: dict[Account, tuple[Any, ...]] = field(default_factory=dict)
    hidden: Hidden | None = None
    acquitted: bool = False

    @property
    def arrivals(self) -> dict[Account, Arrival]:
        """What the loss arrives at, by account."""
        return self.reading.arrivals


@dataclass(slots=True)
class _Pending:
    """A backward pass on its way: what is still to be posted, and the gradients set aside."""

    parts: list[_Part]
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
        self._last: dict[tuple[Any, ...], list[Backward]] = {}
        self._counts: dict[tuple[Any, ...], int] = {}
        self._paths: dict[tuple[Any, ...], Evidence] = {}
        self._searched = False

    def forget(self) -> None:
        """Forget what passes were found to mean: the accounts have changed."""
        self._memory.clear()
        self._last.clear()

    def leave(self) -> None:
        """Let go of passes that are under way."""
        self._pending.clear()

    def before(self, run: Pass) -> bool:
        """Judge a backward pass by its graph before it writes anything.

        Returns:
            Whether to look at what it has written.
        """
        watch = self._watch
        inputs = () if run.inputs is None else tuple(map(id, run.inputs))
        key = (watch.losses.current, inputs, run.site.key)
        if watch.every > 1:
            count = self._counts[key] = self._counts.get(key, -1) + 1
            if count % watch.every and key in self._last:
                self._repeat(self._last[key])
                return False
        if not run.roots:
            # Autograd will refuse it in its own words.
            return False
        known = self._memory.get(key)
        if known is not None and known.fits(run.roots, watch.calls, watch.losses.marks):
            self._repeat(known.events)
            if not known.foreign:
                return False
            self._pending[run] = known
            return True
        parts = self._read(run)
        self._refuse(parts)
        pending = self._pending[run] = _Pending(parts, vault=_vault(parts))
        if not any(part.open or part.hidden for part in parts):
            self._post(pending)
        if watch.every > 1:
            self._last[key] = [replace(part.event, assumed=True) for part in parts]
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
        if watch.ledger.again(*events, empty=watch.registry.empty):
            return
        for event in events:
            watch.balance.settle(event)
        for number, event in enumerate(events):
            watch.act(watch.ledger.post(event, joint=number > 0), Moment.NEVER)

    def _remember(self, key: tuple[Any, ...], parts: list[_Part], run: Pass) -> None:
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

    # Reading

    def _read(self, run: Pass) -> list[_Part]:
        """Read what each loss of a pass reaches."""
        watch = self._watch
        direct = len(watch.losses.direct)
        named, shown = watch.losses.of(run)
        if len(watch.losses.direct) != direct:
            # What has a backward of its own is no term of another loss any more.
            self._memory.clear()
        if not named:
            watch.unnamed(shown, run.site.place)
        while True:
            version = watch.registry.version
            parts = [self._part(one, run) for one in named]
            rest = self._rest(parts, named, run, shown)
            # A model or an optimizer that turned up while reading has changed the accounts.
            if watch.registry.version == version:
                break
        self._hide([*parts, *rest], run)
        for part in parts:
            watch.balance.settle(part.event)
            self._prove(part, run, alone=len(parts) == 1)
            self._explain(part, run)
        return [*parts, *rest]

    def _part(self, named: Named, run: Pass) -> _Part:
        watch = self._watch
        graph = run.graph if named.outputs is None else Graph(roots_of(named.outputs))
        reading = Reading(graph, watch.registry, run.inputs)
        if watch.learner is not None and reading.strangers:
            watch.learner.by_parameter(reading.strangers, run.frame)
        rule = watch.policy.rule(named.name) or Rule()
        reading.look_behind(partial(_is_foreign, rule), watch.calls)
        missing = watch.ledger.missing(named.name, reading.arrivals)
        event = Backward(
            named.name,
            tuple(self._deposit(arrival, rule) for arrival in reading.arrivals.values()),
            run.site.place,
            untrainable=watch.registry.untrainable(missing) if missing else frozenset(),
            blind=bool(graph.blind),
        )
        return _Part(named, graph, reading, event)

    def _hide(self, parts: list[_Part], run: Pass) -> None:
        """Prepare to see what the graphs of blind losses do not show."""
        if run.inputs is not None:
            return
        blind = [part for part in parts if part.named is not None and part.graph.blind]
        for part in blind:
            part.hidden = self._hidden(part, parts, blind, run)

    def _hidden(self, part: _Part, parts: list[_Part], blind: list[_Part], run: Pass) -> Hidden:
        watch, named = self._watch, part.event.loss
        foreign = partial(_is_foreign, watch.policy.rule(named) or Rule())
        shown = {account for other in parts if other is not part for account in other.arrivals}
        rules = [watch.policy.rule(o.event.loss) or Rule() for o in blind if o is not part]

        def aside(account: Account) -> bool:
            seen = watch.docket.proved(hidden_key(named, account))
            return not run.create_graph and (watch.raises or not seen)

        def elsewhere(account: Account) -> bool:
            # Whose doing it is cannot be told if another loss of the same pass may well have
            # done it: that is no accusation.
            return account in shown or (
                foreign(account) and not all(_is_foreign(rule, account) for rule in rules)
            )

        return Hidden(part.reading, foreign, aside, elsewhere)

    def _deposit(self, arrival: Arrival, rule: Rule) -> Deposit:
        registry = self._watch.registry
        deposit = Deposit(arrival.account, arrival.behind, arrival.sure)
        kind, _ = classify(rule, deposit)
        if kind is Kind.MEANT:
            return deposit
        holder = registry.holder(arrival.account)
        if kind is Kind.LEAK and holder is not Holder.OPTIMIZER and not self._searched:
            # The verdict hangs on who holds the model: look for optimizers that nobody has used
            # under the guard yet.
            self._searched = True
            for optimizer in optimizers_alive():
                registry.held_by(optimizer)
        return replace(deposit, holder=holder)

    def _rest(self, parts: list[_Part], named: list[Named], run: Pass, shown: str) -> list[_Part]:
        """Take what no named term accounts for as put there by an unknown loss."""
        if any(one.outputs is None for one in named):
            return []
        reading = Reading(run.graph, self._watch.registry, run.inputs)
        known = {account for part in parts for account in part.arrivals}
        left = tuple(Deposit(account) for account in reading.arrivals if account not in known)
        label = f"rest of {shown}" if named else shown
        return (
            [_Part(None, run.graph, reading, Backward(label, left, run.site.place))] if left else []
        )

    # Proving

    def _prove(self, part: _Part, run: Pass, *, alone: bool) -> None:
        """Confirm each leak once, or leave it open until the backward has run."""
        docket = self._watch.docket
        acquitted: set[Account] = set()
        for accusation in self._accusations(part.event):
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
            part.event = _without(part.event, acquitted)

    def _ask(self, part: _Part, arrival: Arrival, run: Pass, *, alone: bool) -> Answer:
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

    def _explain(self, part: _Part, run: Pass) -> None:
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

    # Acting

    def _accusations(self, event: Backward) -> list[Accusation]:
        preview = self._watch.ledger.preview(event)
        return [accusation for accusation in preview if accusation.saw in _LEAKS]

    def _refuse(self, parts: list[_Part]) -> None:
        """Raise for proved leaks before the backward writes anything."""
        if self._watch.raises:
            refused = [f for part in parts if not part.open for f in self._leaks(part.event)]
            if refused:
                raise IsolationError(refused)

    def _leaks(self, event: Backward) -> list[Finding]:
        """Find the leaks of a backward whose foreign deposits are refused."""
        if not self._accusations(event):
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
            self._resolve(part, pending.vault)
            if self._watch.raises and not pending.posted:
                accusations = self._accusations(part.event)
                found = self._leaks(part.event)
                wronged = {finding.model for finding in found}
                accused = {one.account for one in accusations if one.model in wronged}
                refused += found
                part.event = _without(part.event, accused)
                back += [leaf for account in accused for leaf in part.arrivals[account].leaves]
        return refused, back

    def _resolve(self, part: _Part, vault: Vault | None) -> None:
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
            part.event = _without(part.event, innocent)
        if part.hidden is not None:
            part.event, reached = part.hidden.found(part.event, docket)
            for account in part.hidden.zero:
                zero.update((part.event.loss, owner) for owner in account.owners)
            for account, leaves in reached.items():
                part.arrivals[account] = Arrival(account, leaves=leaves, sure=False)

    def _post(self, pending: _Pending) -> None:
        pending.posted = True
        watch = self._watch
        for number, part in enumerate(pending.parts):
            watch.act(watch.ledger.post(part.event, joint=number > 0), Moment.NEVER)


def _is_foreign(rule: Rule, account: Account) -> bool:
    return rule.stance(account.owners)[0] is Stance.NEVER


def _vault(parts: list[_Part]) -> Vault | None:
    aside = [
        leaf for part in parts for account in part.open for leaf in part.arrivals[account].leaves
    ]
    aside += [leaf for part in parts if part.hidden for leaf in part.hidden.set_aside]
    return Vault(aside) if aside else None


def _foreign(parts: Iterable[_Part]) -> list[Touched]:
    """Return what losses may not train and have reached."""
    return [
        Touched(part.event.loss, deposit.account, part.arrivals[deposit.account].leaves)
        for part in parts
        for deposit in part.event.deposits
        if deposit.evidence is not None and deposit.account in part.arrivals
    ]


def _without(event: Backward, accounts: set[Account]) -> Backward:
    left = tuple(deposit for deposit in event.deposits if deposit.account not in accounts)
    return replace(event, deposits=left)

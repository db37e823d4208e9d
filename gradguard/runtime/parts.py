"""What each loss of a backward pass reaches, read off the graph and put as events."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from gradguard.core.events import Account, Backward, Deposit, Holder
from gradguard.core.judgement import Kind, classify
from gradguard.core.policy import Rule, Stance
from gradguard.runtime.graph import Graph, roots_of
from gradguard.runtime.hidden import Hidden, hidden_key
from gradguard.runtime.learn import optimizers_alive
from gradguard.runtime.losses import Named
from gradguard.runtime.monitor import Pass
from gradguard.runtime.reach import Arrival, Reading

if TYPE_CHECKING:
    from gradguard.runtime.watch import Watch

__all__ = ["Part", "Reader"]


@dataclass(slots=True)
class Part:
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

    def drop(self, accounts: set[Account]) -> None:
        """Take deposits back that were found not to arrive."""
        left = tuple(one for one in self.event.deposits if one.account not in accounts)
        self.event = replace(self.event, deposits=left)


class Reader:
    """Reads the losses of backward passes.

    Args:
        watch: The guard's eyes that this is a part of.
    """

    def __init__(self, watch: Watch) -> None:
        """Begin with nothing read."""
        self._watch = watch
        self._searched = False

    def read(self, run: Pass) -> tuple[list[Part], list[Part]]:
        """Read what each loss of a pass reaches.

        Returns:
            The losses, and what none of them accounts for.
        """
        watch = self._watch
        named, shown = watch.losses.of(run)
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
        return parts, rest

    def _part(self, named: Named, run: Pass) -> Part:
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
        return Part(named, graph, reading, event)

    def _hide(self, parts: list[Part], run: Pass) -> None:
        """Prepare to see what the graphs of blind losses do not show."""
        if run.inputs is not None:
            return
        blind = [part for part in parts if part.named is not None and part.graph.blind]
        for part in blind:
            part.hidden = self._hidden(part, parts, blind, run)

    def _hidden(self, part: Part, parts: list[Part], blind: list[Part], run: Pass) -> Hidden:
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

    def _rest(self, parts: list[Part], named: list[Named], run: Pass, shown: str) -> list[Part]:
        """Take what no named term accounts for as put there by an unknown loss."""
        if any(one.outputs is None for one in named):
            return []
        reading = Reading(run.graph, self._watch.registry, run.inputs)
        known = {account for part in parts for account in part.arrivals}
        left = tuple(Deposit(account) for account in reading.arrivals if account not in known)
        label = f"rest of {shown}" if named else shown
        return (
            [Part(None, run.graph, reading, Backward(label, left, run.site.place))] if left else []
        )


def _is_foreign(rule: Rule, account: Account) -> bool:
    return rule.stance(account.owners)[0] is Stance.NEVER

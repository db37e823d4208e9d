"""One guard's eyes: turns what the process does into events and acts on what the ledger says."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from gradguard.core.events import Account, Backward, Clear, Deposit, Evidence, Holder, Spend
from gradguard.core.findings import Finding, IsolationError, IsolationWarning, Place, Severity
from gradguard.core.ledger import Accusation, Kind, Ledger, Sighting, classify
from gradguard.core.policy import Policy, PolicyError, Rule, Stance, suggestion
from gradguard.core.verdicts import Moment, Saw
from gradguard.runtime import evidence
from gradguard.runtime.balance import Balance, skipped_for_inf
from gradguard.runtime.calls import Calls
from gradguard.runtime.graph import Graph, roots_of
from gradguard.runtime.hidden import Hidden, hidden_key
from gradguard.runtime.learn import Learner, optimizers_alive
from gradguard.runtime.losses import Losses, Named
from gradguard.runtime.monitor import Pass
from gradguard.runtime.names import optimizer_name
from gradguard.runtime.proof import Answer, Docket, Vault, ask, can_set_aside
from gradguard.runtime.reach import Arrival, Reading
from gradguard.runtime.registry import Registry
from gradguard.runtime.sites import Site

__all__ = ["Watch"]

_LEAKS = (Saw.LEAK, Saw.LIVE_SHADOW)


@dataclass(slots=True)
class _Part:
    """One named loss of a backward pass, read and not yet posted."""

    event: Backward
    arrivals: dict[Account, Arrival]
    open: dict[Account, tuple[Any, ...]] = field(default_factory=dict)
    hidden: Hidden | None = None


@dataclass(slots=True)
class _Pending:
    """A backward pass on its way: what is still to be posted, and the gradients set aside."""

    parts: list[_Part]
    posted: bool = False
    vault: Vault | None = None


class Watch:
    """Watches the models of a registry under a policy.

    Args:
        registry: The models.
        policy: What each loss may train.
        on_violation: ``raise``, ``warn`` or ``record``.
        every: Walk the graph at every n-th backward of each call site.
        strict: Refuse a backward that the policy does not speak of.
        learn: Take models in as they turn up.
    """

    def __init__(
        self,
        registry: Registry,
        policy: Policy,
        *,
        on_violation: str = "record",
        every: int = 1,
        strict: bool = False,
        learn: bool = False,
    ) -> None:
        """Begin with an empty ledger."""
        self.registry = registry
        self.policy = policy
        self.raises = on_violation == "raise"
        self.warns = on_violation == "warn"
        self.every = every
        self.strict = strict
        self.learner = Learner(registry) if learn else None
        self.calls = Calls(registry, self.learner.by_call if self.learner else None)
        self.ledger = Ledger(policy, registry.names(), self._absent)
        self.losses = Losses(policy)
        self.docket = Docket()
        self.balance = Balance(registry, self.ledger, self.docket)
        self.zero: set[tuple[str, str]] = set()
        self.unmatched: dict[str, None] = {}
        self._paths: dict[Any, Evidence] = {}
        self._counts: dict[Any, int] = {}
        self._last: dict[Any, list[Backward]] = {}
        self._pending: dict[Pass, _Pending] = {}
        self._coasting: dict[int, Any] = {}
        self._searched = False
        registry.on_change = self._accounts_changed

    def begin(self) -> None:
        """Forget what may have changed unseen while the guard was away."""
        self.registry.refresh()
        self.ledger.post(Clear(frozenset(self.registry.accounts)))

    def leave(self) -> None:
        """Let go of what holds on to the process."""
        self.losses.forget()
        self._pending.clear()
        self._coasting.clear()

    def before_backward(self, run: Pass) -> None:
        """Judge a backward pass by its graph before it writes anything."""
        key = (self.losses.current, *run.site.key)
        count = self._counts[key] = self._counts.get(key, -1) + 1
        if count % self.every and key in self._last:
            for event in self._last[key]:
                self._settle(event)
                self.ledger.post(replace(event, assumed=True))
            return
        named, shown = self.losses.of(run)
        if not named:
            self._unnamed(shown, run.site.place)
        parts = [self._read(one, run, alone=len(named) == 1) for one in named]
        self._add_rest(parts, named, run, shown)
        self._refuse(parts)
        pending = self._pending[run] = _Pending(parts)
        aside = [
            leaf
            for part in parts
            for account in part.open
            for leaf in part.arrivals[account].leaves
        ]
        aside += [leaf for part in parts if part.hidden for leaf in part.hidden.set_aside]
        if aside:
            pending.vault = Vault(aside)
        if not any(part.open or part.hidden for part in parts):
            self._post(pending)
        self._last[key] = [part.event for part in parts]

    def after_backward(self, run: Pass, error: BaseException | None) -> None:
        """See what a backward pass has really written, and put back what it must not have."""
        pending = self._pending.pop(run, None)
        if pending is None:
            return
        if error is not None:
            if pending.vault is not None:
                pending.vault.close()
            return
        refused: list[Finding] = []
        back: list[Tensor] = []
        for part in pending.parts:
            self._resolve(part, pending.vault)
            if self.raises and not pending.posted:
                findings = self._leaks(part.event)
                if findings:
                    refused += findings
                    back += self._withdraw(part)
        if pending.vault is not None:
            pending.vault.close(back)
        if not pending.posted:
            self._post(pending)
        for part in pending.parts:
            self._touch(part)
        if refused:
            raise IsolationError(_by_severity(refused))

    def before_step(self, optimizer: Optimizer, where: Site) -> None:
        """Judge what an optimizer is about to spend, before any parameter moves."""
        name, accounts = self._optimizer(optimizer, where)
        if not accounts:
            return
        self.balance.sweep(accounts)
        event = Spend(name, accounts, where.place)
        gone: set[Account] = set()
        for accusation in self.ledger.preview(event):
            if self.ledger.known(accusation) or accusation.account in gone:
                continue
            if skipped_for_inf(optimizer):
                return
            if not self.balance.stands(accusation, optimizer):
                gone.add(accusation.account)
        if gone:
            self.ledger.post(Clear(frozenset(gone)))
        empty = [account for account in accounts if not self.ledger.holding((account,))]
        if empty:
            self._coasting[id(optimizer)] = self.balance.coasting(optimizer, empty)
        self._act(self.ledger.post(event), Moment.BEFORE_STEP)

    def after_step(self, optimizer: Optimizer, where: Site) -> None:
        """See whether a step has moved what no loss put gradient into."""
        before = self._coasting.pop(id(optimizer), None)
        if before:
            moved = self.balance.moved(optimizer, before)
            if moved:
                name, _ = self._optimizer(optimizer, where)
                event = Spend(name, frozenset(), where.place, coasting=moved)
                self._act(self.ledger.post(event), Moment.AFTER_STEP)

    def cleared(self, holder: Optimizer | nn.Module) -> None:
        """Take note that the gradients of an optimizer or a module were cleared."""
        if isinstance(holder, Optimizer):
            accounts = self.registry.held_by(holder)
            if accounts:
                self.ledger.post(Clear(accounts))
            return
        held = self.ledger.holding(self.registry.accounts)
        if not held:
            return
        inside = {id(parameter) for parameter in holder.parameters()}
        whole = [
            account
            for account in held
            if all(id(p) in inside for p in self.registry.parameters(account))
        ]
        if whole:
            self.ledger.post(Clear(frozenset(whole)))

    def end(self) -> None:
        """Judge what no step has judged; raise if that is how the guard acts."""
        self._act(self.ledger.end(), Moment.BEFORE_STEP)

    def _read(self, named: Named, run: Pass, *, alone: bool) -> _Part:
        """Read what one loss reaches, and drop what proof acquits."""
        name = named.name
        graph = run.graph if named.outputs is None else Graph(roots_of(named.outputs))
        reading = Reading(graph, self.registry, run.inputs)
        if (
            self.learner
            and reading.strangers
            and self.learner.by_parameter(reading.strangers, run.frame)
        ):
            reading = Reading(graph, self.registry, run.inputs)
        rule = self.policy.rule(name) or Rule()

        def foreign(account: Account) -> bool:
            return rule.stance(account.owners)[0] is Stance.NEVER

        reading.look_behind(foreign, self.calls)
        missing = self.ledger.missing(name, reading.arrivals)
        event = Backward(
            name,
            tuple(self._deposit(arrival, rule) for arrival in reading.arrivals.values()),
            run.site.place,
            untrainable=self.registry.untrainable(missing) if missing else frozenset(),
            blind=bool(graph.blind),
        )
        self._settle(event)
        part = _Part(event, reading.arrivals)
        self._prove(part, run, named, alone=alone)
        self._explain(part, graph, run)
        if graph.blind and run.inputs is None:

            def aside(account: Account) -> bool:
                seen = self.docket.proved(hidden_key(name, account))
                return not run.create_graph and (self.raises or not seen)

            part.hidden = Hidden(self.registry, reading, foreign, aside=aside)
        return part

    def _deposit(self, arrival: Arrival, rule: Rule) -> Deposit:
        deposit = Deposit(arrival.account, arrival.behind, arrival.sure)
        kind, _ = classify(rule, deposit)
        if kind is Kind.MEANT:
            return deposit
        holder = self.registry.holder(arrival.account)
        if kind is Kind.LEAK and holder is not Holder.OPTIMIZER:
            self._search_optimizers()
            holder = self.registry.holder(arrival.account)
        return replace(deposit, holder=holder)

    def _prove(self, part: _Part, run: Pass, named: Named, *, alone: bool) -> None:
        """Confirm each leak once, or leave it open until the backward has run."""
        acquitted: set[Account] = set()
        for accusation in self._accusations(part.event):
            key = (accusation.loss, accusation.model, *run.site.key)
            if self.docket.proved(key):
                continue
            if not self.docket.due(key):
                acquitted.add(accusation.account)
                continue
            answer = self._ask(part.arrivals[accusation.account], run, named, alone)
            if answer is Answer.OPEN:
                part.open[accusation.account] = key
            elif answer is Answer.LIVE:
                self.docket.prove(key)
            else:
                self.docket.acquit(key)
                acquitted.add(accusation.account)
                if answer is Answer.ZERO:
                    self.zero.add((accusation.loss, accusation.model))
        if acquitted:
            part.event = _without(part.event, acquitted)

    def _explain(self, part: _Part, graph: Graph, run: Pass) -> None:
        """Give each foreign deposit its path, worked out once for each loss, model and place."""
        paths: dict[Account, Evidence] = {}
        for accusation in self.ledger.preview(part.event):
            key = (accusation.loss, accusation.model, *run.site.key)
            if key not in self._paths:
                accused = evidence.Accused(
                    loss=accusation.loss,
                    model=accusation.model,
                    arrival=part.arrivals[accusation.account],
                    graph=graph,
                    calls=self.calls,
                    registry=self.registry,
                    where=run.site,
                    frame=run.frame,
                )
                self._paths[key] = accused.evidence()
            paths[accusation.account] = self._paths[key]
        if paths:
            part.event = replace(
                part.event,
                deposits=tuple(
                    replace(deposit, evidence=paths.get(deposit.account))
                    for deposit in part.event.deposits
                ),
            )

    def _ask(self, arrival: Arrival, run: Pass, named: Named, alone: bool) -> Answer:
        """Ask autograd for a proof, or answer ``OPEN`` to let the real backward give it."""
        aside = can_set_aside(arrival.leaves) and not run.create_graph
        if alone and not self.raises and aside and named.outputs is None:
            return Answer.OPEN
        answer = ask(run.outputs, run.gradients, arrival.leaves)
        if answer is Answer.LIVE and named.outputs is not None:
            answer = ask(named.outputs, None, arrival.leaves)
        if answer is Answer.OPEN and not aside:
            return Answer.LIVE
        return answer

    def _add_rest(self, parts: list[_Part], named: list[Named], run: Pass, shown: str) -> None:
        """Take what no named term accounts for as put there by an unknown loss."""
        if any(one.outputs is None for one in named):
            return
        reading = Reading(run.graph, self.registry, run.inputs)
        known = {account for part in parts for account in part.arrivals}
        rest = [account for account in reading.arrivals if account not in known]
        if rest:
            label = f"rest of {shown}" if named else shown
            event = Backward(label, tuple(Deposit(account) for account in rest), run.site.place)
            self._settle(event)
            parts.append(_Part(event, {}))

    def _settle(self, event: Backward) -> None:
        """Bring the ledger up to date with gradients cleared unseen, before more is deposited."""
        accounts = [deposit.account for deposit in event.deposits]
        if accounts:
            self.balance.sweep(accounts)
            self.balance.leftovers(accounts)

    def _accusations(self, event: Backward) -> list[Accusation]:
        return [accused for accused in self.ledger.preview(event) if accused.saw in _LEAKS]

    def _refuse(self, parts: list[_Part]) -> None:
        """Raise for proved leaks before the backward writes anything."""
        if not self.raises:
            return
        refused = [
            finding for part in parts if not part.open for finding in self._leaks(part.event)
        ]
        if refused:
            raise IsolationError(_by_severity(refused))

    def _leaks(self, event: Backward) -> list[Finding]:
        """Find the leaks of a backward whose foreign deposits are refused."""
        if not self._accusations(event):
            return []
        sightings = self.ledger.post(event, landed=False)
        return [s.finding for s in sightings if s.verdict.raises is Moment.BEFORE_BACKWARD]

    def _resolve(self, part: _Part, vault: Vault | None) -> None:
        """Settle what was open by what the backward has written."""
        innocent: set[Account] = set()
        for account, key in part.open.items():
            answer = vault.look(part.arrivals[account].leaves) if vault else Answer.LIVE
            if answer is Answer.LIVE:
                self.docket.prove(key)
            else:
                self.docket.acquit(key)
                innocent.add(account)
                if answer is Answer.ZERO:
                    self.zero.update((part.event.loss, owner) for owner in account.owners)
        if innocent:
            part.event = _without(part.event, innocent)
        if part.hidden is not None:
            part.event, reached = part.hidden.found(part.event, self.docket)
            for account in part.hidden.zero:
                self.zero.update((part.event.loss, owner) for owner in account.owners)
            for account, leaves in reached.items():
                part.arrivals[account] = Arrival(account, leaves=leaves, sure=False)

    def _withdraw(self, part: _Part) -> list[Tensor]:
        """Take the refused deposits out of an event; return the parameters to put back."""
        accused = {accusation.account for accusation in self._accusations(part.event)}
        part.event = _without(part.event, accused)
        return [leaf for account in accused for leaf in part.arrivals[account].leaves]

    def _post(self, pending: _Pending) -> None:
        pending.posted = True
        for part in pending.parts:
            self._act(self.ledger.post(part.event), Moment.NEVER)

    def _touch(self, part: _Part) -> None:
        for deposit in part.event.deposits:
            if deposit.evidence is not None and deposit.account in part.arrivals:
                leaves = part.arrivals[deposit.account].leaves
                self.balance.touch(part.event.loss, deposit.account, leaves)

    def _act(self, sightings: Sequence[Sighting], moment: Moment) -> None:
        """Warn of what is fresh, and raise what is due at ``moment``."""
        if self.warns:
            for sighting in sightings:
                if sighting.fresh and sighting.finding.severity is not Severity.INFO:
                    _warn(str(sighting.finding), sighting.finding.place)
        if self.raises:
            due = [s.finding for s in sightings if s.verdict.raises is moment is not Moment.NEVER]
            if due:
                raise IsolationError(_by_severity(due))

    def _unnamed(self, shown: str, place: Place) -> None:
        if shown in self.unmatched:
            return
        known = ", ".join(f"`{name}`" for name in self.policy) or "none"
        text = (
            f"backward of `{shown}`, which the policy does not speak of"
            f"{suggestion(shown, list(self.policy))}; its losses are: {known}. "
            "Name it with `guard.loss(...)` or `guard.watch(...)`"
        )
        if self.strict:
            raise PolicyError(text)
        self.unmatched[shown] = None
        _warn(text, place)

    def _optimizer(self, optimizer: Optimizer, where: Site) -> tuple[str, frozenset[Account]]:
        fallback = type(optimizer).__name__
        return self.registry.optimizer(optimizer, lambda: optimizer_name(where, fallback))

    def _search_optimizers(self) -> None:
        """Look for the optimizers of the process, once, where a verdict hangs on them."""
        if not self._searched:
            self._searched = True
            for optimizer in optimizers_alive():
                self.registry.held_by(optimizer)

    def _absent(self, loss: str, model: str) -> Evidence:
        return evidence.absent(model, loss, self.calls)

    def _accounts_changed(self, parts: Callable[[Account], Iterable[Account]]) -> None:
        self.ledger.split(parts)
        self.ledger.models = tuple(self.registry.names())
        self.balance.forget()
        self.calls.forget()
        self._last.clear()


def _without(event: Backward, accounts: set[Account]) -> Backward:
    left = tuple(deposit for deposit in event.deposits if deposit.account not in accounts)
    return replace(event, deposits=left)


def _warn(text: str, place: Place) -> None:
    """Warn with the program's own place, however deep in libraries the cause was seen."""
    warnings.warn_explicit(
        "\n" + text if "\n" in text else text,
        IsolationWarning,
        filename=place.filename,
        lineno=place.location.row,
    )


def _by_severity(findings: Sequence[Finding]) -> list[Finding]:
    order = (Severity.ERROR, Severity.WARNING, Severity.INFO)
    return sorted(findings, key=lambda finding: order.index(finding.severity))

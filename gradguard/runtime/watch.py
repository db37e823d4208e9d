"""One guard's eyes: turns what the process does into events and acts on what the ledger says."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence

from gradguard.core.cases import Sighting
from gradguard.core.events import Account, Clear
from gradguard.core.findings import IsolationError, IsolationWarning, Place, Severity
from gradguard.core.ledger import Ledger
from gradguard.core.policy import Policy, PolicyError, suggestion
from gradguard.core.suppressions import unsilenced
from gradguard.core.verdicts import Moment
from gradguard.runtime.balance import Balance
from gradguard.runtime.calls import Calls
from gradguard.runtime.evidence import absent
from gradguard.runtime.learn import Learner
from gradguard.runtime.losses import Losses
from gradguard.runtime.passes import Passes
from gradguard.runtime.proof import Docket
from gradguard.runtime.registry import Registry
from gradguard.runtime.steps import Steps

__all__ = ["Watch"]


class Watch:
    """Watches the models of a registry under a policy.

    Args:
        registry: The models.
        policy: What each loss may train.
        on_violation: ``raise``, ``warn`` or ``record``.
        every: Walk the graph at every n-th backward of each call site.
        strict: Refuse a backward that the policy does not speak of.
        learn: Take models in as they turn up.

    Attributes:
        zero: Pairs of loss and model in which all gradient was found to be zero.
    """

    observes = False

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
        self.every = every
        self.learner = Learner(registry) if learn else None
        self.calls = Calls(registry, self.learner.by_call if self.learner else None)
        self.ledger = Ledger(
            policy, registry.names(), lambda loss, model: absent(model, loss, self.calls)
        )
        self.losses = Losses(policy)
        self.docket = Docket()
        self.balance = Balance(registry, self.ledger, self.docket)
        self.zero: set[tuple[str, str]] = set()
        self._passes = Passes(self)
        self._steps = Steps(self)
        # What the taps call, without a detour: every step of training waits for it.
        self.before_backward, self.after_backward = self._passes.before, self._passes.after
        self.before_step, self.after_step = self._steps.before, self._steps.after
        self.cleared, self.coasting = self._steps.cleared, self._steps.coasting
        self._warns = on_violation == "warn"
        self._strict = strict
        self._unmatched: set[str] = set()
        registry.on_change = self._accounts_changed

    def begin(self) -> None:
        """Forget what may have changed unseen while the guard was away."""
        self.registry.refresh()
        self.ledger.post(Clear(frozenset(self.registry.accounts)))

    def leave(self) -> None:
        """Let go of what holds on to the process."""
        self.losses.forget()
        self._passes.leave()
        self._steps.leave()

    def end(self) -> None:
        """Judge what no step has judged; raise if that is how the guard acts."""
        self.act(self.ledger.end(), Moment.BEFORE_STEP)

    def act(self, sightings: Sequence[Sighting], moment: Moment) -> None:
        """Warn of what is fresh, and raise what is due at ``moment``."""
        if self._warns:
            fresh = [s.finding for s in sightings if s.fresh]
            for finding in unsilenced(fresh):
                if finding.severity is not Severity.INFO:
                    _warn("\n" + str(finding), finding.place)
        if self.raises and moment is not Moment.NEVER:
            due = unsilenced(s.finding for s in sightings if s.verdict.raises is moment)
            if due:
                raise IsolationError(due)

    def unnamed(self, shown: str, place: Place) -> None:
        """Warn once of a backward that the policy does not speak of, or refuse it if strict."""
        known = ", ".join(f"`{name}`" for name in self.policy) or "none"
        text = (
            f"backward of `{shown}`, which the policy does not speak of"
            f"{suggestion(shown, list(self.policy))}; its losses are: {known}. "
            "Name it with `guard.loss(...)` or `guard.watch(...)`"
        )
        if self._strict:
            raise PolicyError(text)
        if shown not in self._unmatched:
            self._unmatched.add(shown)
            _warn(text, place)

    def _accounts_changed(self, parts: Callable[[Account], Iterable[Account]]) -> None:
        self.ledger.split(parts, self.registry.names())
        self.balance.forget()
        self.calls.forget()
        self._passes.forget()
        self._steps.forget()


def _warn(text: str, place: Place) -> None:
    """Warn with the program's own place, however deep in libraries the cause was seen."""
    warnings.warn_explicit(
        text, IsolationWarning, filename=place.filename, lineno=place.location.row
    )

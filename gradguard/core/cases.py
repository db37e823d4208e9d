"""Root causes and the findings they make: one finding each, upgraded and counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from gradguard.core.codes import code
from gradguard.core.events import Deposit, Evidence, Spend
from gradguard.core.findings import UNKNOWN_PLACE, Finding, Place, TraceStep
from gradguard.core.judgement import Accusation
from gradguard.core.verdicts import VERDICTS, Saw, Verdict

__all__ = ["Case", "Cases", "Sighting"]


@dataclass(slots=True)
class Case:
    """A root cause and what has been seen of it.

    Attributes:
        saw: The worst that was seen of it.
        rank: How bad that is.
        made: The finding as it was made.
        count: How often it was seen.
        closing: The end of the trace, once it is known.
        open_end: True while the step that trains what the loss was meant for is still to come.
    """

    saw: Saw
    rank: int
    made: Finding
    count: int = 1
    closing: TraceStep | None = None
    open_end: bool = False

    @property
    def finding(self) -> Finding:
        """The finding as it stands now."""
        trace = self.made.trace if self.closing is None else (*self.made.trace, self.closing)
        return replace(self.made, count=self.count, trace=trace)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A case as an event shows it.

    Attributes:
        case: The case.
        fresh: True the first time, and when the case became worse.
    """

    case: Case
    fresh: bool

    @property
    def finding(self) -> Finding:
        """The finding as it stands now."""
        return self.case.finding

    @property
    def verdict(self) -> Verdict:
        """The row of the verdict table that it follows."""
        return VERDICTS[self.case.saw]


@dataclass(slots=True)
class Cases:
    """All cases of a ledger, by root cause, in the order in which they were first seen."""

    by_cause: dict[tuple[str, str, str], Case] = field(default_factory=dict)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings of all cases."""
        return tuple(case.finding for case in self.by_cause.values())

    @property
    def open(self) -> bool:
        """True while the trace of some case waits for its end."""
        return any(case.open_end and case.closing is None for case in self.by_cause.values())

    def known(self, accusation: Accusation) -> bool:
        """Say whether the accusation's finding exists already, at this level or a worse one."""
        case = self.by_cause.get(accusation.key)
        return case is not None and case.rank >= accusation.rank

    def see(
        self,
        accusation: Accusation,
        deposit: Deposit | None,
        place: Place,
        spend: Spend | None = None,
    ) -> Sighting:
        """Take an accusation in: count it, upgrade what it makes worse, or open a case.

        Args:
            accusation: What is concluded.
            deposit: The deposit that it is about, if any.
            place: Where the deposit's backward was called.
            spend: The step that consumed it, if one did.
        """
        case = self.by_cause.get(accusation.key)
        if case is not None and case.rank >= accusation.rank:
            # A deposit that becomes part of something worse is counted there.
            case.count += case.rank == accusation.rank
            return Sighting(case, fresh=False)
        return self.upgrade(accusation, deposit, place, spend)

    def upgrade(
        self,
        accusation: Accusation,
        deposit: Deposit | None,
        place: Place,
        spend: Spend | None = None,
    ) -> Sighting:
        """Open a case, or make a known one worse, without counting it again."""
        case = self.by_cause.get(accusation.key)
        made = _make(accusation, deposit, place, spend, case)
        count = 1 if case is None else case.count
        worse = self.by_cause[accusation.key] = Case(
            accusation.saw,
            accusation.rank,
            made,
            count,
            open_end=accusation.saw in (Saw.LEAK, Saw.LIVE_SHADOW),
        )
        return Sighting(worse, fresh=True)

    def starve(
        self, accusation: Accusation, place: Place, spend: Spend | None, told: Evidence
    ) -> Sighting:
        """Take in that a loss has missed a model that it must train."""
        case = self.by_cause.get(accusation.key)
        if case is not None:
            case.count += 1
            return Sighting(case, fresh=False)
        model = accusation.model
        steps = [*told.trace, TraceStep(place, f"no parameter of `{model}` receives gradient")]
        if spend is not None:
            text = f"steps `{model}` without gradient of `{accusation.loss}`"
            steps.append(TraceStep(spend.place, text))
        made = _finding(accusation, "", told.place or place, steps, told.help)
        case = self.by_cause[accusation.key] = Case(Saw.STARVED, accusation.rank, made)
        return Sighting(case, fresh=True)

    def close(self, place: Place, trained: dict[str, set[str]]) -> None:
        """End the traces of losses that have now trained what they were meant to train."""
        for (loss, _, _), case in self.by_cause.items():
            if case.open_end and case.closing is None and loss in trained:
                case.open_end = False
                names = ", ".join(f"`{model}`" for model in sorted(trained[loss]))
                case.closing = TraceStep(place, f"trains {names} only")


def _make(
    accusation: Accusation,
    deposit: Deposit | None,
    place: Place,
    spend: Spend | None,
    before: Case | None,
) -> Finding:
    """Make the finding of an accusation, on top of the milder case it grew from, if any."""
    saw, model = accusation.saw, accusation.model
    told = (deposit.evidence if deposit is not None else None) or Evidence()
    help_text, where = told.help, told.place or place
    steps = list(told.trace) or [TraceStep(place, f"`{accusation.loss}` runs backward")]
    if before is not None and saw is Saw.LEAK_APPLIED:
        steps, help_text, where = list(before.made.trace), before.made.help, before.made.place
    if spend is None:
        return _finding(accusation, "", where, steps, help_text or _HELP.get(saw))
    if deposit is None:
        steps = []
    if saw is not Saw.LEAK_APPLIED:
        help_text, where = None, spend.place
    steps = [step for step in steps if step.place != spend.place]
    steps.append(TraceStep(spend.place, _CONSUMED[saw].format(model=model)))
    told_help = _HELP.get(saw, "").format(
        model=model, loss=accusation.loss, optimizer=spend.optimizer
    )
    return _finding(accusation, spend.optimizer, where, steps, help_text or told_help or None)


_CONSUMED = {
    Saw.LEAK_APPLIED: "applies it to `{model}`",
    Saw.SPILL_APPLIED: "applies it to `{model}`",
    Saw.SPILL_STALE: "steps `{model}` with what was left over",
    Saw.OWN_STALE: "steps `{model}` with it again",
    Saw.MOVED: "moves `{model}` by momentum or weight decay",
}

_HELP = {
    Saw.SPILL_APPLIED: "give `{model}` an optimizer of its own, or filter: "
    "`gradguard.backward({loss}, into=...)`",
    Saw.SPILL_STALE: "clear `{model}` before its own loss runs backward: `{optimizer}.zero_grad()`",
    Saw.OWN_STALE: "clear `{model}` after the step: `{optimizer}.zero_grad()`",
    Saw.MOVED: "`{optimizer}.zero_grad(set_to_none=True)`: an optimizer skips a gradient that is "
    "None, not one that is zero",
}


def _finding(
    accusation: Accusation,
    optimizer: str,
    place: Place,
    steps: Sequence[TraceStep],
    help_text: str | None,
) -> Finding:
    verdict = VERDICTS[accusation.saw]
    return Finding(
        code=verdict.code,
        name=code(verdict.code).name,
        severity=verdict.severity,
        message=verdict.message.format(
            loss=accusation.loss, model=accusation.model, optimizer=optimizer
        ),
        place=place or UNKNOWN_PLACE,
        loss=accusation.loss or None,
        model=accusation.model,
        trace=tuple(steps),
        help=help_text,
    )

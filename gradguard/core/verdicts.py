"""The verdict table: what the ledger saw, and what that is worth.

One row for each thing the ledger can conclude, with its code, its severity and the moment at
which ``on_violation="raise"`` raises. Severity follows consequence: wasted work is no error.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from gradguard.core.findings import Severity

__all__ = ["VERDICTS", "Moment", "Saw", "Verdict"]


class Saw(Enum):
    """What the ledger saw."""

    SPILL = auto()
    LEAK = auto()
    LIVE_SHADOW = auto()
    LEAK_APPLIED = auto()
    SPILL_APPLIED = auto()
    SPILL_STALE = auto()
    OWN_STALE = auto()
    STARVED = auto()
    MOVED = auto()
    UNKNOWN = auto()


class Moment(Enum):
    """When a verdict is raised."""

    NEVER = auto()
    BEFORE_BACKWARD = auto()
    BEFORE_STEP = auto()
    AFTER_STEP = auto()


@dataclass(frozen=True, slots=True)
class Verdict:
    """One row of the table.

    Attributes:
        code: The code of the finding.
        severity: The severity of the finding.
        raises: The moment at which it is raised.
        message: The sentence, with ``loss``, ``model`` and ``optimizer`` to fill in.
    """

    code: str
    severity: Severity
    raises: Moment
    message: str


E, W, I = Severity.ERROR, Severity.WARNING, Severity.INFO  # noqa: E741  columns of a table

VERDICTS: dict[Saw, Verdict] = {
    # a deposit over a dead end
    Saw.LEAK: Verdict(
        "GG101", W, Moment.BEFORE_BACKWARD,
        "`{loss}` reaches `{model}`, which it does not train",
    ),
    # the same, where the model is a copy that no optimizer holds
    Saw.LIVE_SHADOW: Verdict(
        "GG104", W, Moment.BEFORE_BACKWARD,
        "`{loss}` reaches `{model}`, a shadow model that no optimizer holds",
    ),
    # a deposit on the way to an allowed model, cleared before that model's step
    Saw.SPILL: Verdict(
        "GG102", I, Moment.NEVER,
        "`{loss}` passes through `{model}` and leaves gradient there",
    ),
    # a leak reaches a step
    Saw.LEAK_APPLIED: Verdict(
        "GG103", E, Moment.BEFORE_STEP,
        "`{optimizer}` applies gradient of `{loss}` to `{model}`, which it does not train",
    ),
    # a spill reaches a step, and no clear could have removed it alone
    Saw.SPILL_APPLIED: Verdict(
        "GG103", E, Moment.BEFORE_STEP,
        "`{optimizer}` applies gradient of `{loss}` to `{model}`, which it only passes through",
    ),
    # a spill reaches a step; a clear before the step's first meant deposit would have removed it
    Saw.SPILL_STALE: Verdict(
        "GG204", E, Moment.BEFORE_STEP,
        "`{optimizer}` steps `{model}` with gradient left over from `{loss}`",
    ),
    # one deposit is spent twice
    Saw.OWN_STALE: Verdict(
        "GG204", E, Moment.BEFORE_STEP,
        "`{optimizer}` steps `{model}` again with gradient of `{loss}` that it has already spent",
    ),
    # a loss does not reach a model it must train
    Saw.STARVED: Verdict(
        "GG301", E, Moment.BEFORE_STEP,
        "`{loss}` does not reach `{model}`, which it must train",
    ),
    # an optimizer moves a model without any deposit: zero is not None
    Saw.MOVED: Verdict(
        "GG206", W, Moment.AFTER_STEP,
        "`{optimizer}` moves `{model}` although no loss put gradient there",
    ),
    # only an opaque region lies between a loss and a model that its rule speaks of
    Saw.UNKNOWN: Verdict(
        "GG903", I, Moment.NEVER,
        "whether `{loss}` reaches `{model}` cannot be told before backward",
    ),
}  # fmt: skip

"""The timeline: the first events of a ledger as they came, whichever way they were posted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gradguard.core.events import Account, Backward, Clear, Deposit, Spend
from gradguard.core.findings import Location, Place
from gradguard.core.judgement import Kind
from gradguard.core.ledger import Ledger
from gradguard.core.policy import Policy
from gradguard.core.timeline import Happening, Timeline

CRITIC, GENERATOR = Account(("critic",)), Account(("generator",))
POLICY = Policy.parse({"critic_loss": "critic", "generator_loss": "generator"})
STEP = Place("train.py", Location(9, 1))
MEANT = Backward("critic_loss", (Deposit(CRITIC),))
LEAK = Backward("critic_loss", (Deposit(CRITIC), Deposit(GENERATOR)))


def opened(limit: int = 48) -> tuple[Ledger, Timeline]:
    """Open a ledger that tells a timeline what happens."""
    ledger = Ledger(POLICY, ("critic", "generator"))
    timeline = ledger.timeline = Timeline(POLICY, ledger.models, limit)
    return ledger, timeline


def test_events_are_kept_in_order_with_what_they_mean() -> None:
    """A deposit says for each model whether it was meant for it."""
    ledger, timeline = opened()
    spill = Deposit(CRITIC, frozenset({GENERATOR}))
    ledger.post(LEAK)
    ledger.post(Spend("critic_opt", frozenset({CRITIC}), STEP))
    ledger.post(Backward("generator_loss", (spill, Deposit(GENERATOR))))
    ledger.post(Backward("other", (Deposit(CRITIC),)))
    assert [(entry.what, entry.name, entry.models) for entry in timeline.entries] == [
        (Happening.DEPOSIT, "critic_loss", {"critic": Kind.MEANT, "generator": Kind.LEAK}),
        (Happening.SPEND, "critic_opt", {"critic": None}),
        (Happening.DEPOSIT, "generator_loss", {"critic": Kind.SPILL, "generator": Kind.MEANT}),
        (Happening.DEPOSIT, "other", {"critic": Kind.OPEN}),
    ]


def test_what_repeats_itself_is_kept_as_well() -> None:
    """The short ways of the ledger leave nothing out."""
    ledger, timeline = opened()
    for _ in range(3):
        assert ledger.again([Clear(frozenset({CRITIC}))])
        if not ledger.again([MEANT]):
            ledger.post(MEANT)
        if not ledger.again([Spend("critic_opt", frozenset({CRITIC}))]):
            ledger.post(Spend("critic_opt", frozenset({CRITIC}), STEP))
    happened = [Happening.CLEAR, Happening.DEPOSIT, Happening.SPEND]
    assert [entry.what for entry in timeline.entries] == 3 * happened
    assert [entry.place for entry in timeline.entries[2::3]] == 3 * [STEP]


def test_clears_that_follow_each_other_are_one() -> None:
    """Two optimizers cleared in turn are one moment of the loop."""
    ledger, timeline = opened()
    ledger.post(Clear(frozenset({CRITIC}), STEP))
    ledger.again([Clear(frozenset({GENERATOR}))])
    [entry] = timeline.entries
    assert set(entry.models) == {"critic", "generator"}
    assert entry.place == STEP


def test_a_backward_that_is_refused_is_not_kept() -> None:
    """Nothing was deposited."""
    ledger, timeline = opened()
    ledger.post(LEAK, landed=False)
    assert timeline.entries == []


def test_a_full_timeline_is_let_go_of() -> None:
    """After its limit it costs nothing, and what it has stays."""
    ledger, timeline = opened(limit=2)
    for _ in range(5):
        ledger.post(MEANT)
        ledger.again([Clear(frozenset({CRITIC}))])
    assert len(timeline.entries) == 2
    assert ledger.timeline is None


@pytest.mark.parametrize("post", [Ledger.post, lambda ledger, event: ledger.again([event])])
def test_findings_do_not_depend_on_a_timeline(post: Callable[..., object]) -> None:
    """Watching changes nothing of what is found and how often."""
    watched, _ = opened()
    alone = Ledger(POLICY, ("critic", "generator"))
    for ledger in (watched, alone):
        ledger.post(LEAK)
        post(ledger, LEAK)
        ledger.post(Spend("critic_opt", frozenset({CRITIC}), STEP))
    assert watched.findings == alone.findings
    assert [finding.count for finding in watched.findings] == [2]

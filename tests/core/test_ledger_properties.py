"""On random event sequences the ledger keeps its promises and agrees with a plain judge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from hypothesis import given, settings, strategies as st
from random_events import (
    OTHER_NAMES,
    Step,
    World,
    backward,
    halved,
    loops,
    renamed,
    stories,
    units,
    up_to,
    worlds,
)

from gradguard.core.events import Account, Backward, Clear, Event, Holder, Spend
from gradguard.core.findings import Finding
from gradguard.core.ledger import Ledger
from gradguard.core.policy import Rule
from gradguard.core.verdicts import VERDICTS

brief = settings(deadline=None, max_examples=200)
thorough = settings(deadline=None, max_examples=800)

LEVELS = {"info": 0, "warning": 1, "error": 2}
APPLIED = {"GG103", "GG204"}


def allowed(rule: Rule, account: Account) -> bool:
    """Read a rule over names: an explicit never wins, then an allowed owner, then the rest."""
    if rule.never.intersection(account.owners):
        return False
    wanted = (rule.only or frozenset()) | rule.must | rule.may
    return bool(wanted.intersection(account.owners)) or rule.only is None


def blamed(rule: Rule, account: Account) -> str:
    """Say on which owner's account a forbidden deposit is forbidden."""
    return next((o for o in account.owners if o in rule.never), account.owners[0])


@dataclass(frozen=True)
class Lying:
    """A deposit as the plain judge sees it."""

    time: int
    loss: str
    account: Account
    kind: str
    model: str


class PlainJudge:
    """The table of design.md, read anew over the whole list of events at every event.

    Attributes:
        found: The code for each root cause: loss, model, and whether it is about own gradient.
    """

    def __init__(self, world: World, steps: Sequence[Step]) -> None:
        """Judge all of ``steps``."""
        self.rules = world.rules
        self.models = world.models
        self.events = [event for event, _ in steps]
        self.times: list[int] = []
        for number, (_, joint) in enumerate(steps):
            self.times.append(self.times[-1] if joint else number)
        self.found: dict[tuple[str, str, bool], str] = {}
        for number, event in enumerate(self.events):
            if isinstance(event, Backward):
                for one in self.deposits(number, event):
                    if one.kind in ("GG101", "GG104", "GG102"):
                        self.note(one, one.kind)
            elif isinstance(event, Spend):
                self.step(number, event)

    def note(self, one: Lying, code: str, *, own: bool = False) -> None:
        """Keep the worst code of a root cause, and the first of equally bad ones."""
        levels = {"GG102": 0, "GG101": 1, "GG104": 1, "GG103": 2, "GG204": 2}
        key = (one.loss, one.model, own)
        if key not in self.found or levels[code] > levels[self.found[key]]:
            self.found[key] = code

    def deposits(self, number: int, event: Backward) -> list[Lying]:
        """Judge each pair of loss and model of a backward pass."""
        rule = self.rules.get(event.loss)
        time = self.times[number]
        if rule is None:
            return [Lying(time, event.loss, d.account, "open", "") for d in event.deposits]
        reached = {owner for d in event.deposits for owner in d.account.owners}
        wanted = {
            model
            for model in self.models
            if model in (rule.only or frozenset()) | rule.must and model not in rule.never
        } - event.untrainable
        starved = bool(wanted) and not wanted & reached and not event.blind
        judged = []
        for deposit in event.deposits:
            if allowed(rule, deposit.account):
                judged.append(Lying(time, event.loss, deposit.account, "meant", ""))
                continue
            model = blamed(rule, deposit.account)
            passed = any(
                allowed(rule, behind)
                for other in event.deposits
                if not allowed(rule, other.account) and blamed(rule, other.account) == model
                for behind in other.behind
            )
            dead_end = "GG104" if deposit.holder is Holder.SHADOW else "GG101"
            kind = "open" if starved else "GG102" if passed else dead_end
            judged.append(Lying(time, event.loss, deposit.account, kind, model))
        return judged

    def lying(self, number: int, accounts: frozenset[Account]) -> Iterator[Lying]:
        """Find what was deposited into accounts before an event and not cleared since."""
        for before, event in enumerate(self.events[:number]):
            for one in self.deposits(before, event) if isinstance(event, Backward) else ():
                cleared = any(
                    isinstance(later, Clear) and one.account in later.accounts
                    for later in self.events[before + 1 : number]
                )
                if one.account in accounts and not cleared:
                    yield one

    def spenders(self, one: Lying, number: int) -> set[str]:
        """Find the optimizers that have spent a deposit before an event."""
        return {
            event.optimizer
            for time, event in zip(self.times[:number], self.events[:number], strict=True)
            if time > one.time and isinstance(event, Spend) and one.account in event.accounts
        }

    def step(self, number: int, event: Spend) -> None:
        """Judge what an optimizer consumes."""
        lying = list(self.lying(number, event.accounts))
        meant = [one for one in lying if one.kind == "meant"]
        fresh = [one.time for one in meant if not self.spenders(one, number)]
        for one in lying:
            same = [o for o in lying if (o.loss, o.model) == (one.loss, one.model)]
            if one.kind in ("GG101", "GG104"):
                self.note(one, "GG103")
            elif one.kind == "GG102":
                removable = bool(fresh) and all(
                    o.kind == "GG102" and o.time < min(fresh) for o in same if o.kind != "open"
                )
                self.note(one, "GG204" if removable else "GG103")
        for one in meant:
            if event.optimizer in self.spenders(one, number):
                owner = meant_for(self.rules[one.loss], one.account)
                self.note(replace(one, model=owner), "GG204", own=True)


def meant_for(rule: Rule, account: Account) -> str:
    """Say for which owner a deposit is meant: what is demanded comes before what is allowed."""
    for names in ((rule.only or frozenset()) | rule.must, rule.may):
        for owner in account.owners:
            if owner in names:
                return owner
    return account.owners[0]


def causes(ledger: Ledger) -> dict[tuple[str, str, bool], str]:
    """Return what a ledger found about reach and own gradient, as the plain judge keeps it."""
    return {
        (str(f.loss), str(f.model), "already spent" in f.message): f.code
        for f in ledger.findings
        if f.code not in ("GG301", "GG206", "GG903")
    }


@thorough
@given(stories())
def test_the_ledger_agrees_with_a_plain_judge(story: tuple[World, list[Step]]) -> None:
    """Leak, spill, applied, stale and twice are what a reading of the whole list says they are."""
    world, steps = story
    assert causes(world.kept(steps)) == PlainJudge(world, steps).found


@brief
@given(stories())
def test_nothing_is_applied_that_was_not_deposited_and_left(
    story: tuple[World, list[Step]],
) -> None:
    """A step is accused of gradient that is uncleared, and foreign or spent before by itself."""
    world, steps = story
    ledger = world.ledger()
    for number, (event, joint) in enumerate(steps):
        for sighting in ledger.post(event, joint=joint):
            finding = sighting.finding
            if not isinstance(event, Spend) or finding.code not in APPLIED:
                continue
            past = PlainJudge(world, steps[:number])
            assert any(
                not allowed(world.rules[one.loss], one.account)
                or event.optimizer in past.spenders(one, number)
                for one in past.lying(number, event.accounts)
                if one.loss == finding.loss and finding.model in one.account.owners
            )


@brief
@given(st.data(), worlds())
def test_clearing_before_every_backward_leaves_only_leaks_and_starvation(
    data: st.DataObject, world: World
) -> None:
    """With all cleared, and each loss stepped once by its own optimizers, nothing is applied."""
    ledger = world.ledger()
    for _ in range(1 + up_to(data.draw, 4)):
        ledger.post(Clear(frozenset(world.accounts)))
        event = backward(data.draw, world)
        ledger.post(event)
        rule = world.rules.get(event.loss, Rule())
        for name, held in world.optimizers.items():
            if all(allowed(rule, account) for account in held):
                ledger.post(Spend(name, held))
    ledger.end()
    assert {f.code for f in ledger.findings} <= {"GG101", "GG102", "GG104", "GG301"}


@brief
@given(stories())
def test_names_mean_nothing(story: tuple[World, list[Step]]) -> None:
    """Renamed consistently, all is found as before under the new names, in the same order."""
    world, steps = story
    found = world.kept(steps).findings
    other: World = renamed(world, OTHER_NAMES)
    assert other.kept(renamed(tuple(steps), OTHER_NAMES)).findings == renamed(found, OTHER_NAMES)


@brief
@given(st.data(), stories(8), stories(8))
def test_the_order_of_unrelated_models_does_not_matter(
    data: st.DataObject, one: tuple[World, list[Step]], two: tuple[World, list[Step]]
) -> None:
    """Two programs that share nothing are judged alike side by side and one after the other."""
    here, first = one
    there, second = renamed(two[0], OTHER_NAMES), list(renamed(tuple(two[1]), OTHER_NAMES))
    both = World(
        here.models + there.models,
        here.accounts + there.accounts,
        {**here.optimizers, **there.optimizers},
        {**here.rules, **there.rules},
    )
    queues = [units(first), units(second)]
    mixed: list[Step] = []
    while any(queues):
        queue = queues[up_to(data.draw, 1)] or next(filter(None, queues))
        mixed += queue.pop(0)
    found = both.kept(mixed).findings
    assert set(found) == set(both.kept([*first, *second]).findings)
    assert set(found) == {*here.kept(first).findings, *there.kept(second).findings}


@brief
@given(stories())
def test_how_parameters_are_divided_into_accounts_changes_nothing(
    story: tuple[World, list[Step]],
) -> None:
    """Twice as many accounts of the same models give the same findings, counted the same."""
    world, steps = story
    finer = [(halved(event), joint) for event, joint in steps]
    assert world.kept(finer).findings == world.kept(steps).findings


@brief
@given(st.data(), stories())
def test_accounts_may_fall_apart_at_any_time(
    data: st.DataObject, story: tuple[World, list[Step]]
) -> None:
    """Where an optimizer is seen late, what lies in the accounts is judged as if seen early."""
    world, steps = story
    whole = units(steps)
    at = data.draw(st.integers(0, len(whole)))
    ledger = world.kept([step for unit in whole[:at] for step in unit])
    ledger.split(lambda account: halved(frozenset({account})), world.models)
    for event, joint in (step for unit in whole[at:] for step in unit):
        ledger.post(halved(event), joint=joint)
    assert causes(ledger) == causes(world.kept(steps))


@brief
@given(stories())
def test_the_same_events_give_the_same_findings(story: tuple[World, list[Step]]) -> None:
    """A ledger has no other input than its events."""
    world, steps = story
    assert world.kept(steps).findings == world.kept(steps).findings


def hurried(ledger: Ledger, event: Event, known: dict[Event, tuple[Event]]) -> None:
    """Tell a ledger of an event by the shortest way that it takes."""
    if not ledger.again(known.setdefault(event, (event,))):
        ledger.post(event)


@thorough
@given(loops())
def test_the_short_ways_of_the_steady_state_come_to_the_same(
    story: tuple[World, list[Event]],
) -> None:
    """Whatever a ledger knows already it takes in faster, and knows as much as before."""
    world, events = story
    short, long = world.ledger(), world.ledger()
    known: dict[Event, tuple[Event]] = {}
    for event in events:
        hurried(short, event, known)
        long.post(event)
        assert short.findings == long.findings
        assert short.holding(world.accounts) == long.holding(world.accounts)
        assert short.stale(world.accounts) == long.stale(world.accounts)
    assert [s.finding for s in short.end()] == [s.finding for s in long.end()]
    assert (short.findings, short.seen, short.last) == (long.findings, long.seen, long.last)


def concerned(event: Event) -> frozenset[Account]:
    """Return the accounts that an event reads or writes."""
    if isinstance(event, Backward):
        return frozenset(deposit.account for deposit in event.deposits)
    return event.accounts if isinstance(event, Spend) else frozenset()


@thorough
@given(st.data(), loops())
def test_gradients_removed_by_hand_are_noticed_on_the_short_way(
    data: st.DataObject, story: tuple[World, list[Event]]
) -> None:
    """Accounts that the program empties itself, between any two events, count as cleared."""
    world, events = story
    short, long = world.ledger(), world.ledger()
    known: dict[Event, tuple[Event]] = {}
    there: set[Account] = set()
    turns = 3 if len(events) < 10 else 1

    def gone_by_hand(account: Account) -> bool:
        return account not in there

    for event in events * turns:
        if up_to(data.draw, 3) == 0:
            there.discard(world.accounts[up_to(data.draw, len(world.accounts) - 1)])
        gone = Clear(frozenset(filter(gone_by_hand, concerned(event))))
        long.post(gone)
        long.post(event)
        if not short.again(known.setdefault(event, (event,)), gone_by_hand):
            short.post(gone)
            short.post(event)
        if isinstance(event, Clear):
            there -= event.accounts
        if isinstance(event, Backward):
            there |= concerned(event)
        assert short.findings == long.findings
        assert (short.seen, short.last) == (long.seen, long.last)


@brief
@given(stories())
def test_nothing_is_applied_that_does_not_stand(story: tuple[World, list[Step]]) -> None:
    """Gradient that turns out not to be there is cleared; asking changes nothing where it is."""
    world, steps = story
    confirmed, acquitted = world.ledger(), world.ledger()
    for event, joint in steps:
        confirmed.post(event, joint=joint, stands=lambda _: True)
        shown = acquitted.post(event, joint=joint, stands=lambda _: False)
        assert APPLIED.isdisjoint(sighting.finding.code for sighting in shown)
    assert confirmed.findings == world.kept(steps).findings


@brief
@given(stories())
def test_a_preview_changes_nothing_and_foretells_what_a_deposit_or_a_step_shows(
    story: tuple[World, list[Step]],
) -> None:
    """What is accused is what is then shown, and what is not known yet is what is then fresh."""
    world, steps = story
    ledger = world.ledger()
    for event, joint in steps:
        before, foretold, new = ledger.findings, [], set()
        if isinstance(event, Backward | Spend):
            foretold = ledger.preview(event)
            assert foretold == ledger.preview(event)
            new = {(a.key, VERDICTS[a.saw].severity) for a in foretold if not ledger.known(a)}
        assert ledger.findings == before
        shown = [s for s in ledger.post(event, joint=joint) if s.finding.code != "GG301"]
        pairs = {(s.finding.loss or "", s.finding.model) for s in shown}
        assert pairs == {(a.loss, a.model) for a in foretold}
        fresh = [s.finding for s in shown if s.fresh]
        assert {(f.loss or "", f.model) for f in fresh} == {(k[0], k[1]) for k, _ in new}
        assert {f.severity for f in fresh} <= {severity for _, severity in new}
    assert ledger.findings == world.kept(steps).findings


@brief
@given(stories())
def test_a_finding_never_gets_milder_or_rarer(story: tuple[World, list[Step]]) -> None:
    """Findings keep their place; severity and count only rise."""
    world, steps = story
    ledger = world.ledger()
    before: tuple[Finding, ...] = ()
    for event, joint in steps:
        ledger.post(event, joint=joint)
        after = ledger.findings
        for old, new in zip(before, after, strict=False):
            assert (old.loss, old.model) == (new.loss, new.model)
            assert LEVELS[old.severity] <= LEVELS[new.severity]
            assert new.count >= old.count
        before = after


@brief
@given(stories())
def test_what_is_only_assumed_accuses_nobody(story: tuple[World, list[Step]]) -> None:
    """If no backward was looked at, nothing is found, whatever steps and clears there are."""
    world, steps = story
    unseen = [
        (replace(event, assumed=True) if isinstance(event, Backward) else event, joint)
        for event, joint in steps
    ]
    ledger = world.kept(unseen)
    ledger.end()
    assert ledger.findings == ()

"""What lies in the accounts: asked for, moved, doubted, and taken in by the short ways."""

from __future__ import annotations

import gc

import pytest
from books import GAN, Book, C, G, account

from gradguard.core.events import Account, Backward, Clear, Deposit, Spend
from gradguard.core.judgement import Accusation
from gradguard.core.verdicts import Moment, Saw


@pytest.fixture
def gan() -> Book:
    """Open a ledger for critic and generator, each with its own loss."""
    return Book(GAN)


def test_what_lies_in_an_account_moves_to_its_parts(gan: Book) -> None:
    """Once an account has fallen in two, each part is cleared and spent for itself."""
    first, second = (Account((G,), part) for part in range(2))
    gan.backward("critic_loss", {C: [G], G: []})
    gan.ledger.split(lambda one: [first, second] if one == account(G) else [one], (C, G))
    gan.post(Clear(frozenset({first})))
    assert gan.post(Spend("first_opt", frozenset({first}))) == []
    gan.post(Spend("second_opt", frozenset({second})))
    assert gan.found == [("GG103", "critic_loss", G)]


def test_a_step_of_one_part_spends_nothing_of_the_other(gan: Book) -> None:
    """Once apart, two parts are spent once each by one optimizer, which is no second time."""
    parts = [Account((G,), part) for part in range(2)]
    gan.backward("generator_loss", {G: []})
    gan.ledger.split(lambda one: parts if one == account(G) else [one], (C, G))
    for part in parts:
        gan.post(Spend("generator_opt", frozenset({part})))
    assert gan.found == []


def test_parts_that_grow_together_keep_what_lay_in_either(gan: Book) -> None:
    """When an optimizer is gone its part is no part any more; nothing in it is forgotten."""
    whole, part = (Account((G,), number) for number in range(2))
    gan.post(Backward("critic_loss", (Deposit(account(C)), Deposit(whole))))
    gan.post(Backward("generator_loss", (Deposit(part),)))
    gan.ledger.split(lambda one: [whole if one == part else one], (C, G))
    gan.post(Spend("generator_opt", frozenset({whole})))
    assert gan.found == [("GG103", "critic_loss", G)]


def test_what_was_known_of_a_backward_is_forgotten_when_accounts_change() -> None:
    """A model that turns up late may be demanded by a pattern, or hold what was nobody's."""
    late = Book({"loss": "part_*"}, "part_a")
    event = Backward("loss", (Deposit(account("part_a")),))
    for _ in range(2):
        late.post(event)
        late.step("part_opt", "part_a")
        late.clear("part_a")
    assert late.ledger.again([event])
    late.clear("part_a")
    late.ledger.split(lambda one: [one], ("part_a", "part_b"))
    assert not late.ledger.again([event])
    assert late.ledger.missing("loss", [account("part_a")]) == ("part_b",)
    late.post(event)
    assert not late.ledger.again([Spend("part_opt", frozenset({account("part_a")}))])
    late.step("part_opt", "part_a", "part_b")
    assert late.found == [("GG301", "loss", "part_b")]


def test_an_optimizer_is_met_anew_when_accounts_change(gan: Book) -> None:
    """What it holds may be other accounts now, so that its next step is posted."""
    held = frozenset({account(C)})
    for _ in range(2):
        gan.backward("critic_loss", {C: []})
        assert not gan.ledger.again([Spend("critic_opt", held)])
        gan.step("critic_opt", C)
        gan.clear(C)
        gan.ledger.split(lambda one: [one], (C, G))


def test_a_ledger_says_where_something_lies_that_is_old_or_foreign(gan: Book) -> None:
    """What is fresh and meant is neither; spent, spilled or leaked gradient is."""
    both = [account(C), account(G)]
    gan.backward("critic_loss", {C: []})
    assert (gan.ledger.holding(both), gan.ledger.stale(both)) == (both[:1], [])
    gan.step("critic_opt", C)
    assert gan.ledger.stale(both) == both[:1]
    gan.clear(C)
    assert (gan.ledger.holding(both), gan.ledger.stale(both)) == ([], [])
    gan.backward("generator_loss", {C: [G], G: []})
    assert (gan.ledger.holding(both), gan.ledger.stale(both)) == (both, both[:1])
    gan.backward("critic_loss", {C: []})
    assert gan.ledger.stale(both) == both[:1]


def test_a_ledger_says_what_a_backward_means_and_misses(gan: Book) -> None:
    """The meant accounts of an event, and the demanded models among whose accounts none is."""
    event = Backward("generator_loss", (Deposit(account(C)), Deposit(account(G))))
    assert gan.ledger.meant(event) == [account(G)]
    assert gan.ledger.missing("generator_loss", [account(C)]) == (G,)
    assert gan.ledger.missing("generator_loss", [account("generator.head+generator")]) == ()
    assert gan.ledger.missing("other_loss", []) == ()


def test_a_deposit_that_does_not_stand_is_cleared_and_asked_of_once(gan: Book) -> None:
    """Asked is only what would be new; what stood once is believed from then on."""
    asked: list[str] = []

    def stands(accusation: Accusation) -> bool:
        asked.append(accusation.model)
        return len(asked) > 1

    for found in (["GG101"], ["GG103"], ["GG103"]):
        gan.backward("critic_loss", {C: [], G: []})
        gan.post(Spend("generator_opt", frozenset({account(G)})), stands=stands)
        assert [finding.code for finding in gan.ledger.findings] == found
    assert asked == [G, G]


@pytest.mark.parametrize("cleared", ["critic", "generator"])
def test_a_step_that_was_refused_has_spent_nothing(cleared: str) -> None:
    """Tried again without the leak it is clean; tried again as it was it is refused as before."""
    book = Book({"critic_loss": C})
    held = frozenset({account(C), account(G)})
    book.backward("critic_loss", {C: [], G: []})
    refused = Spend("both_opt", held, book.place())
    assert [s.verdict.raises for s in book.post(refused)] == [Moment.BEFORE_STEP]
    book.ledger.refuse(refused)
    assert book.ledger.stale([account(C)]) == []
    book.clear(cleared)
    again = [s.finding.code for s in book.step("both_opt", C, G)]
    assert again == (["GG103"] if cleared == "critic" else [])
    assert [f.code for f in book.ledger.findings] == ["GG103"]


def test_a_refused_step_leaves_the_window_as_it_was(gan: Book) -> None:
    """What was left over before the meant gradient came is left over still."""
    gan.backward("generator_loss", {C: [G], G: []})
    gan.backward("critic_loss", {C: []})
    step = Spend("critic_opt", frozenset({account(C)}), gan.place())
    before = gan.ledger.preview(step)
    assert [accusation.saw for accusation in before] == [Saw.SPILL_STALE]
    gan.post(step)
    gan.ledger.refuse(step)
    assert gan.ledger.preview(step) == before


def test_a_refusal_takes_back_only_what_the_refused_step_has_spent(gan: Book) -> None:
    """Gradient that an earlier step has spent stays spent, whoever was refused since."""
    gan.backward("critic_loss", {C: []})
    gan.step("critic_opt", C)
    second = Spend("critic_opt", frozenset({account(C)}), gan.place())
    for count in (1, 2):
        gan.post(second)
        gan.ledger.refuse(second)
        assert [(f.code, f.count) for f in gan.ledger.findings] == [("GG204", count)]


def test_a_backward_that_was_refused_deposits_nothing(gan: Book) -> None:
    """The leak is found, and no step is blamed for gradient that was never written."""
    gan.backward("critic_loss", {C: [G], G: []}, options={"landed": False})
    assert gan.found == [("GG101", "critic_loss", G)]
    gan.step("generator_opt", G)
    assert gan.ledger.holding([account(C), account(G)]) == []
    assert gan.found == [("GG101", "critic_loss", G)]


def test_a_backward_that_was_refused_may_be_refused_again(gan: Book) -> None:
    """It is not taken in the short way, and has fed nothing: the model is starved as before."""
    event = Backward("critic_loss", (Deposit(account(C)), Deposit(account(G))), gan.place())
    gan.post(event, landed=False)
    assert not gan.ledger.again([event])
    gan.step("critic_opt", C)
    gan.backward("critic_loss", {})
    gan.step("critic_opt", C)
    assert gan.found[1:] == [("GG301", "critic_loss", C)]


def test_a_backward_that_comes_again_as_it_was_is_taken_in_the_short_way(gan: Book) -> None:
    """Only the very event, not an equal one, and only once it was posted."""
    event, other = (Backward("critic_loss", (Deposit(account(C)),)) for _ in range(2))
    assert not gan.ledger.again([event])
    gan.post(event)
    assert gan.ledger.again([event])
    assert not gan.ledger.again([other])
    gan.post(other)
    assert gan.ledger.last["critic_loss"] is other
    assert gan.ledger.again([event])
    assert gan.ledger.last["critic_loss"] is event


def test_losses_of_one_backward_come_again_together_each_as_itself(gan: Book) -> None:
    """Both are counted, both are last seen as they came, and each answers for its own gradient."""
    spilled = Deposit(account(C), frozenset({account(G)}))
    spills = Backward("generator_loss", (spilled, Deposit(account(G))))
    leaks = Backward("critic_loss", (Deposit(account(C)), Deposit(account(G))))
    other = Backward("generator_loss", (Deposit(account(G)),))
    for number, event in enumerate((spills, leaks)):
        gan.post(event, joint=number > 0)
    gan.post(other)
    gan.clear(C, G)
    assert gan.ledger.last["generator_loss"] is other
    assert not gan.ledger.again([leaks, Backward("other_loss", ())])
    assert gan.ledger.holding([account(C), account(G)]) == []
    assert gan.ledger.again([spills, leaks])
    assert gan.ledger.last == {"generator_loss": spills, "critic_loss": leaks}
    assert [f.count for f in gan.ledger.findings if f.code == "GG101"] == [2]
    gan.step("critic_opt", C)
    assert ("GG103", "generator_loss", C) in gan.found


def test_a_backward_that_comes_again_feeds_the_models_that_it_reaches(gan: Book) -> None:
    """Nine misses, a hit in the short way, nine misses: never ten in a row."""
    hit, miss = Backward("critic_loss", (Deposit(account(C)),)), Backward("critic_loss", ())
    gan.post(hit)
    for _ in range(2):
        gan.clear(C)
        assert gan.ledger.again([hit])
        for _ in range(9):
            gan.clear(C)
            gan.post(miss)
            gan.step("critic_opt", C)
    assert gan.found == []
    gan.post(miss)
    gan.step("critic_opt", C)
    assert gan.found == [("GG301", "critic_loss", C)]


def test_a_ledger_remembers_some_events_and_not_all(gan: Book) -> None:
    """A loop in which no backward is like another keeps a bounded number of them alive."""
    alive = []
    for _ in range(3):
        for _ in range(600):
            gan.post(Backward("critic_loss", (Deposit(account(C)),), gan.place()))
            gan.clear(C)
        alive.append(sum(type(found) is Backward for found in gc.get_objects()))
    assert alive[0] < 600
    assert alive[2] <= alive[0] + 256


def test_a_backward_comes_again_only_if_what_lies_there_was_looked_at(gan: Book) -> None:
    """Accounts whose gradients are gone are empty; stale ones where more is meant are left."""
    event = Backward("critic_loss", (Deposit(account(C)),))
    gan.post(event)
    gan.step("critic_opt", C)
    assert not gan.ledger.again([event], empty=lambda _: False)
    assert gan.ledger.again([event], empty=lambda one: one == account(C))
    gan.step("critic_opt", C)
    assert gan.found == []


@pytest.mark.parametrize(("spent", "code"), [(True, "GG204"), (False, "GG103")])
def test_a_window_begins_where_it_would_if_every_backward_were_posted(
    gan: Book, spent: bool, code: str
) -> None:
    """The first meant deposit after the last step decides whether a spill before it is stale."""
    event = Backward("critic_loss", (Deposit(account(C)),))
    gan.post(event)
    if spent:
        gan.step("critic_opt", C)
    gan.backward("generator_loss", {C: [G], G: []})
    # What is left over there has to be looked at first.
    assert not gan.ledger.again([event])
    gan.post(event)
    gan.step("critic_opt", C)
    assert gan.found[0] == (code, "generator_loss", C)


def test_a_window_ends_with_a_step_that_was_taken_in_the_short_way(gan: Book) -> None:
    """A spill that follows it comes before the next meant gradient: a clear could remove it."""
    event, held = Backward("critic_loss", (Deposit(account(C)),)), frozenset({account(C)})
    gan.post(event)
    gan.step("critic_opt", C)
    gan.clear(C)
    assert gan.ledger.again([event])
    assert gan.ledger.again([Spend("critic_opt", held)])
    gan.backward("generator_loss", {C: [G], G: []})
    gan.post(event)
    step = Spend("critic_opt", held)
    assert Saw.SPILL_STALE in [accusation.saw for accusation in gan.ledger.preview(step)]


def test_a_step_is_taken_in_the_short_way_if_nothing_can_be_said_of_it(gan: Book) -> None:
    """An optimizer seen before spends what is fresh and meant; anything else is posted."""
    held = frozenset({account(C)})
    gan.backward("critic_loss", {C: []})
    assert not gan.ledger.again([Spend("critic_opt", held)])
    gan.step("critic_opt", C)
    assert not gan.ledger.again([Spend("critic_opt", held)])
    gan.clear(C)
    assert not gan.ledger.again([Spend("critic_opt", held)])
    gan.backward("critic_loss", {C: []})
    assert gan.ledger.again([Spend("critic_opt", held)])
    gan.step("critic_opt", C)
    assert gan.found == [("GG204", "critic_loss", C)]


@pytest.mark.parametrize("what", ["spill", "leak", "hunger"])
def test_a_step_that_may_show_something_is_posted(gan: Book, what: str) -> None:
    """Foreign gradient, a trace without its end, and a starved model each bar the short way."""
    event = Backward("critic_loss", (Deposit(account(C)),))
    gan.post(event)
    gan.step("critic_opt", C)
    gan.clear(C)
    if what == "spill":
        gan.backward("generator_loss", {C: [G], G: []})
    gan.backward("critic_loss", {C: [], **({G: []} if what == "leak" else {})})
    if what == "hunger":
        gan.backward("generator_loss", {})
    held = frozenset({account(C)})
    assert not gan.ledger.again([Spend("critic_opt", held)])
    if what == "leak":
        gan.step("critic_opt", C)
        gan.clear(C, G)
        assert gan.ledger.again([event])
        assert gan.ledger.again([Spend("critic_opt", held)])

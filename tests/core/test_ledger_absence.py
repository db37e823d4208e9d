"""What did not happen: starved models, models moved without gradient, and what cannot be known."""

from __future__ import annotations

import pytest
from books import GAN, Book, C, G

from gradguard.core.cases import Sighting
from gradguard.core.events import Evidence
from gradguard.core.findings import Location, Place, TraceStep
from gradguard.core.ledger import Ledger
from gradguard.core.policy import Policy, must, never
from gradguard.core.verdicts import Moment

AGAIN = 10


@pytest.fixture
def gan() -> Book:
    """Open a ledger for critic and generator, each with its own loss."""
    return Book(GAN)


def test_a_starved_model_is_found_at_its_first_step_after_the_loss(gan: Book) -> None:
    """GG301, an error as it was declared, due before the step; other steps show nothing."""
    gan.step("generator_opt", G)
    gan.backward("generator_loss", {C: []})
    assert gan.shown == []
    assert gan.step("critic_opt", C) == []
    gan.step("generator_opt", G)
    assert gan.verdict == ("GG301", "error", Moment.BEFORE_STEP, True)
    assert gan.found == [("GG301", "generator_loss", G)]
    [finding] = gan.ledger.findings
    assert finding.message == "`generator_loss` does not reach `generator`, which it must train"


def test_a_model_that_one_of_several_backward_passes_reaches_is_not_starved(gan: Book) -> None:
    """An empty mask before the first step is no finding, on either side of a full one."""
    gan.backward("generator_loss", {C: []})
    gan.backward("generator_loss", {C: [G], G: []})
    gan.backward("generator_loss", {C: []})
    gan.step("generator_opt", G)
    assert gan.found == [("GG102", "generator_loss", C)]


def miss(book: Book, times: int) -> list[Sighting]:
    """Let the generator's loss miss the generator, with a clear and a step each time."""
    shown = []
    for _ in range(times):
        book.clear(C, G)
        book.backward("generator_loss", {C: []})
        shown += book.step("generator_opt", G)
    return shown


def test_after_the_first_judgement_only_ten_misses_in_a_row_starve(gan: Book) -> None:
    """Nine are forgiven and forgotten at the next hit; the tenth is judged at the next step."""
    gan.backward("generator_loss", {C: [G], G: []})
    gan.step("generator_opt", G)
    assert miss(gan, AGAIN - 1) == []
    gan.backward("generator_loss", {C: [G], G: []})
    assert miss(gan, AGAIN - 1) == []
    [sighting] = miss(gan, 1)
    assert (sighting.finding.code, sighting.fresh) == ("GG301", True)


def test_a_model_that_stays_starved_is_counted_every_tenth_time(gan: Book) -> None:
    """One finding, seen again only after ten further misses in a row."""
    shown = {number: miss(gan, 1) for number in range(1, 2 + 2 * AGAIN)}
    counted = {n: [sighting.fresh for sighting in found] for n, found in shown.items() if found}
    assert counted == {1: [True], 1 + AGAIN: [False], 1 + 2 * AGAIN: [False]}
    assert gan.found == [("GG301", "generator_loss", G)]
    assert gan.ledger.findings[0].count == 3


def test_a_starved_model_without_a_step_is_judged_at_the_end(gan: Book) -> None:
    """The end judges what no step has judged, once."""
    gan.backward("generator_loss", {C: []})
    [sighting] = gan.ledger.end()
    assert (sighting.finding.code, sighting.finding.model) == ("GG301", G)
    assert gan.ledger.end() == []

    fed = Book(GAN)
    fed.backward("generator_loss", {C: [G], G: []})
    assert fed.ledger.end() == []


def test_models_that_only_some_loss_must_reach_are_judged_together_at_the_end() -> None:
    """For `only(a, b)` it is enough that each is reached by one of the losses."""
    starved = [("GG301", "second", "b"), ("GG301", "second", "c"), ("GG301", "second", "d")]
    for reached, found in (("abcd", []), ("aa", starved), ("", [])):
        book = Book({"*": {"may": list("abcd")}}, *"abcd")
        book.ledger.together = frozenset("abcd")
        for number, model in enumerate(reached):
            book.backward("second" if number else "first", {model: []})
        book.ledger.end()
        assert book.found == found


def test_the_trace_of_a_starved_model_is_what_is_known_of_its_absence() -> None:
    """Who builds the ledger says where the model was called and what cuts it off."""
    asked = []

    def absence(loss: str, model: str) -> Evidence:
        asked.append((loss, model))
        place = Place("nets.py", Location(7, 3))
        return Evidence((TraceStep(place, "is cut off"),), "take the `detach` out", place)

    book = Book(GAN)
    book.ledger = Ledger(Policy.parse(GAN), (C, G), absence)
    for _ in range(1 + 2 * AGAIN):
        book.backward("generator_loss", {C: []})
        book.step("generator_opt", G)
    [finding] = book.ledger.findings
    assert (finding.filename, finding.location.row, finding.count) == ("nets.py", 7, 3)
    assert finding.help == "take the `detach` out"
    assert [(step.location.row, step.message) for step in finding.trace] == [
        (7, "is cut off"),
        (1, "no parameter of `generator` receives gradient"),
        (2, "steps `generator` without gradient of `generator_loss`"),
    ]
    assert asked == [("generator_loss", G)]


def test_nothing_need_be_reached_that_cannot_be_trained() -> None:
    """`must` counts while the model is trainable, from the first time that it is."""
    book = Book({"loss": must(C, G)})
    book.backward("loss", {C: []}, untrainable=frozenset({G}))
    book.step("optimizer", C, G)
    book.clear(C, G)
    assert book.found == []
    book.backward("loss", {C: []})
    book.step("optimizer", C, G)
    assert book.found == [("GG301", "loss", G)]


def test_absence_in_a_graph_that_hides_something_proves_nothing(gan: Book) -> None:
    """A blind graph starves nobody, and what it does show is judged as ever."""
    gan.backward("generator_loss", {C: []}, blind=True)
    gan.step("generator_opt", G)
    assert gan.ledger.end() == []
    assert gan.found == [("GG101", "generator_loss", C)]


def test_what_a_starved_loss_still_reaches_is_a_consequence(gan: Book) -> None:
    """The generator's loss, cut off from the generator, leaks into the critic: one finding."""
    gan.backward("generator_loss", {C: []})
    gan.step("critic_opt", C)
    gan.step("generator_opt", G)
    assert gan.found == [("GG301", "generator_loss", G)]


def test_a_loss_that_reaches_something_it_must_train_is_not_excused() -> None:
    """If only one of two models is starved, a leak beside it is a finding of its own."""
    book = Book({"loss": ["encoder", "decoder"]}, "encoder", "decoder", "critic")
    book.backward("loss", {"decoder": [], C: []})
    book.step("optimizer", "encoder", "decoder")
    assert book.found == [("GG101", "loss", C), ("GG301", "loss", "encoder")]


def test_a_loss_that_reaches_nothing_it_must_train_is_starved_once() -> None:
    """Severed from two models, it is one finding and not two, however other losses fare."""
    policy = {"loss": ["encoder", "decoder"], "other_loss": C}
    book = Book(policy, "encoder", "decoder", "critic")
    book.backward("other_loss", {C: []})
    book.backward("loss", {C: []})
    book.step("optimizer", "encoder", "decoder")
    assert [finding.code for finding in book.ledger.findings] == ["GG301"]


def test_a_loss_that_reaches_one_of_three_models_is_starved_of_each_of_the_others() -> None:
    """Each is a cut of its own, found at that model's step."""
    book = Book({"loss": ["a", "b", "c"]}, "a", "b", "c")
    book.backward("loss", {"a": []})
    for model in "abc":
        book.step(f"{model}_opt", model)
    assert book.found == [("GG301", "loss", "b"), ("GG301", "loss", "c")]


def test_a_model_moved_without_gradient_is_found_after_the_step(gan: Book) -> None:
    """GG206, a warning; not where a deposit lies, nor where starvation is the cause."""
    gan.step("optimizer", coasting=[G])
    assert gan.verdict == ("GG206", "warning", Moment.AFTER_STEP, True)
    [finding] = gan.ledger.findings
    assert (finding.loss, finding.model) == (None, G)
    assert finding.message == "`optimizer` moves `generator` although no loss put gradient there"
    assert [step.message for step in finding.trace] == [
        "moves `generator` by momentum or weight decay"
    ]
    assert finding.help == (
        "`optimizer.zero_grad(set_to_none=True)`: an optimizer skips a gradient that is None, "
        "not one that is zero"
    )

    held = Book(GAN)
    held.backward("generator_loss", {G: []})
    assert held.step("optimizer", G, coasting=[G]) == []

    starved = Book(GAN)
    starved.backward("generator_loss", {C: []})
    starved.step("generator_opt", G)
    assert starved.step("generator_opt", G, coasting=[G]) == []
    starved.clear(C)
    starved.step("critic_opt", coasting=[C])
    assert starved.found[1:] == [("GG206", None, C)]


def test_a_model_that_was_stepped_before_is_not_judged_by_a_loss_that_came_last(gan: Book) -> None:
    """Whether the loss would have reached it at its next step nobody knows; there was none."""
    gan.step("generator_opt", G)
    gan.backward("generator_loss", {C: []})
    assert gan.ledger.end() == []
    assert gan.found == []


def test_unknown_reach_is_information_where_the_policy_speaks_of_the_model() -> None:
    """GG903 for what must be or must not be reached; of a model that may be, nothing is said."""
    book = Book({"loss": must("a") | never("b")}, "a", "b", "c")
    book.backward("loss", {"c": []}, unknown=frozenset("abc"))
    assert book.found == [("GG903", "loss", "a"), ("GG903", "loss", "b")]
    assert {s.verdict.raises for s in book.shown} == {Moment.NEVER}
    assert {str(s.finding.severity) for s in book.shown} == {"info"}
    first = book.ledger.findings[0]
    assert [step.place for step in first.trace] == [first.place]
    assert "custom Function" in first.trace[0].message
    assert first.help is not None
    book.step("optimizer", "a", "b", "c")
    assert book.ledger.end() == []
    assert all("only" not in step.message for f in book.ledger.findings for step in f.trace)

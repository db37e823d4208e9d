"""The ledger, row by row of the verdict table: each verdict fires, and its neighbour does not."""

from __future__ import annotations

import pytest
from books import GAN, Book, C, G, account

from gradguard.core.events import (
    Account,
    Backward,
    Deposit,
    Evidence,
    Holder,
    Restart,
    Spend,
)
from gradguard.core.findings import TraceStep
from gradguard.core.policy import never
from gradguard.core.verdicts import Moment


@pytest.fixture
def gan() -> Book:
    """Open a ledger for critic and generator, each with its own loss."""
    return Book(GAN)


def test_a_deposit_over_a_dead_end_is_a_leak(gan: Book) -> None:
    """GG101, a warning, due before backward; with the generator cut off there is nothing."""
    gan.backward("critic_loss", {C: [G], G: []})
    assert gan.verdict == ("GG101", "warning", Moment.BEFORE_BACKWARD, True)
    assert gan.found == [("GG101", "critic_loss", G)]

    detached = Book(GAN)
    assert detached.backward("critic_loss", {C: []}) == []
    assert detached.step("critic_opt", C) == []


def test_a_leak_that_a_step_applies_is_the_same_finding_made_worse(gan: Book) -> None:
    """GG103, an error, due before the step; the place stays that of the leak."""
    gan.backward("critic_loss", {C: [G], G: []})
    gan.step("generator_opt", G)
    assert gan.verdict == ("GG103", "error", Moment.BEFORE_STEP, True)
    assert gan.found == [("GG103", "critic_loss", G)]
    [finding] = gan.ledger.findings
    assert finding.location.row == 1
    assert [step.location.row for step in finding.trace] == [1, 2]
    assert finding.message == (
        "`generator_opt` applies gradient of `critic_loss` to `generator`, which it does not train"
    )


def test_a_leak_that_is_cleared_before_the_step_stays_a_leak(gan: Book) -> None:
    """Wasted work is no applied leak, however often it is repeated."""
    for _ in range(3):
        gan.backward("critic_loss", {C: [G], G: []})
        gan.clear(G)
        gan.backward("generator_loss", {G: []})
        assert gan.step("generator_opt", G) == []
        gan.clear(G)
    [finding] = gan.ledger.findings
    assert (finding.code, finding.count) == ("GG101", 3)


def test_a_leak_is_applied_whatever_lies_between_it_and_the_step(gan: Book) -> None:
    """A leak is no stale gradient: the missing `detach` is the cause, not the missing clear."""
    gan.backward("critic_loss", {C: [G], G: []})
    gan.step("critic_opt", C)
    gan.clear(C)
    gan.post(Restart())
    gan.backward("generator_loss", {G: []})
    gan.step("generator_opt", G)
    assert gan.found == [("GG103", "critic_loss", G)]


def test_an_applied_leak_is_counted_and_not_repeated(gan: Book) -> None:
    """One root cause is one finding; it is fresh only when it gets worse."""
    fresh, counts = [], []
    for _ in range(3):
        gan.backward("critic_loss", {C: [G], G: []})
        fresh += [sighting.fresh for sighting in gan.shown]
        gan.step("generator_opt", G)
        fresh += [sighting.fresh for sighting in gan.shown]
        counts.append(gan.ledger.findings[0].count)
        gan.clear(C, G)
    assert fresh == [True, True, False, False, False, False]
    assert counts == sorted(set(counts))
    assert gan.found == [("GG103", "critic_loss", G)]


def test_what_was_seen_before_still_counts_when_a_finding_gets_worse(gan: Book) -> None:
    """Five leaks that were cleared and one that was applied were seen more than five times."""
    for _ in range(5):
        gan.backward("critic_loss", {C: [G], G: []})
        gan.clear(G)
    gan.backward("critic_loss", {C: [G], G: []})
    gan.step("generator_opt", G)
    assert gan.ledger.findings[0].count > 5


def test_one_backward_counts_once_however_many_accounts_of_a_model_it_reaches(gan: Book) -> None:
    """How a model's parameters are divided among optimizers does not multiply what was seen."""
    parts = [Account((G,), part) for part in range(3)]
    gan.post(Backward("critic_loss", tuple(map(Deposit, [account(C), *parts]))))
    gan.post(Spend("generator_opt", frozenset(parts)))
    whole = Book(GAN)
    whole.backward("critic_loss", {C: [], G: []})
    whole.step("generator_opt", G)
    assert [f.count for f in gan.ledger.findings] == [f.count for f in whole.ledger.findings]


@pytest.mark.parametrize(
    ("holder", "code"),
    [(Holder.SHADOW, "GG104"), (Holder.NOBODY, "GG101"), (Holder.OPTIMIZER, "GG101")],
)
def test_a_dead_end_into_a_shadow_model_has_a_code_of_its_own(holder: Holder, code: str) -> None:
    """GG104 for a copy that no optimizer holds; a model merely without optimizer is GG101."""
    book = Book({"q_loss": "q"}, "q", "target")
    book.backward("q_loss", {"q": []})
    assert book.found == []
    book.backward("q_loss", {"q": [], "target": []}, holder=holder)
    assert book.verdict == (code, "warning", Moment.BEFORE_BACKWARD, True)


@pytest.mark.parametrize("holder", list(Holder))
def test_what_a_loss_passes_through_is_a_spill_whoever_holds_it(holder: Holder) -> None:
    """GG102, information, never raised: also for a model that no optimizer holds."""
    book = Book(GAN)
    book.backward("generator_loss", {C: [G], G: []}, holder=holder)
    assert book.verdict == ("GG102", "info", Moment.NEVER, True)


def test_a_spill_that_is_cleared_before_the_step_is_only_information(gan: Book) -> None:
    """The usual loop of an adversarial pair, in its usual order, shows nothing but GG102."""
    for _ in range(3):
        gan.clear(C)
        gan.backward("critic_loss", {C: []})
        assert gan.step("critic_opt", C) == []
        gan.clear(G)
        gan.backward("generator_loss", {C: [G], G: []})
        assert gan.step("generator_opt", G) == []
        gan.post(Restart())
    assert gan.found == [("GG102", "generator_loss", C)]


def test_a_spill_that_a_clear_would_have_removed_is_stale(gan: Book) -> None:
    """GG204, an error, due before the step: the clear stands in the wrong place."""
    gan.backward("generator_loss", {C: [G], G: []})
    gan.backward("critic_loss", {C: []})
    gan.step("critic_opt", C)
    assert gan.verdict == ("GG204", "error", Moment.BEFORE_STEP, True)
    assert gan.found == [("GG204", "generator_loss", C)]
    [finding] = gan.ledger.findings
    assert finding.message == (
        "`critic_opt` steps `critic` with gradient left over from `generator_loss`"
    )
    assert finding.help == (
        "clear `critic` before its own loss runs backward: `critic_opt.zero_grad()`"
    )


def test_a_spill_in_one_window_with_the_meant_gradient_is_applied(gan: Book) -> None:
    """GG103, an error, due before the step: no clear could have parted the two."""
    gan.backward("critic_loss", {C: []})
    gan.backward("generator_loss", {C: [G], G: []})
    gan.step("critic_opt", C)
    assert gan.verdict == ("GG103", "error", Moment.BEFORE_STEP, True)
    assert gan.found == [("GG103", "generator_loss", C)]
    [finding] = gan.ledger.findings
    assert finding.message.endswith("to `critic`, which it only passes through")
    assert finding.help == (
        "give `critic` an optimizer of its own, or filter: "
        "`gradguard.backward(generator_loss, into=...)`"
    )


@pytest.mark.parametrize(
    "names", [("critic_loss", "generator_loss"), ("generator_loss", "critic_loss")]
)
def test_losses_of_one_backward_are_one_window_in_whatever_order_they_are_named(
    names: tuple[str, str],
) -> None:
    """No clear can come between two terms of a sum, so what spills there is applied."""
    book = Book(GAN)
    into = {"critic_loss": {C: ()}, "generator_loss": {C: (G,), G: ()}}
    for number, loss in enumerate(names):
        book.backward(loss, into[loss], options={"joint": number > 0})
    book.step("critic_opt", C)
    assert book.found == [("GG103", "generator_loss", C)]


def test_a_spill_on_both_sides_of_the_meant_gradient_is_applied(gan: Book) -> None:
    """A clear would have removed only the first of the two: the second is the graver cause."""
    gan.backward("generator_loss", {C: [G], G: []})
    gan.backward("critic_loss", {C: []})
    gan.backward("generator_loss", {C: [G], G: []})
    gan.step("critic_opt", C)
    assert gan.found == [("GG103", "generator_loss", C)]


def test_a_shared_optimizer_steps_what_its_loss_only_passes_through(gan: Book) -> None:
    """The window begins with the step's first meant deposit, in whichever model that lies."""
    gan.backward("generator_loss", {C: [G], G: []})
    gan.backward("critic_loss", {C: []})
    gan.step("optimizer", C, G)
    assert gan.found == [("GG103", "generator_loss", C)]


def test_one_deposit_that_is_spent_twice_is_stale(gan: Book) -> None:
    """GG204, an error, due before the second step."""
    gan.backward("critic_loss", {C: []})
    assert gan.step("critic_opt", C) == []
    gan.step("critic_opt", C)
    assert gan.verdict == ("GG204", "error", Moment.BEFORE_STEP, True)
    [finding] = gan.ledger.findings
    assert finding.message == (
        "`critic_opt` steps `critic` again with gradient of `critic_loss` that it has already spent"
    )
    assert [(step.location.row, step.message) for step in finding.trace] == [
        (1, "`critic_loss` runs backward"),
        (3, "steps `critic` with it again"),
    ]
    assert finding.help == "clear `critic` after the step: `critic_opt.zero_grad()`"


def test_an_own_old_gradient_that_joins_the_new_is_stale(gan: Book) -> None:
    """A missing `zero_grad` is found at the second step, although new gradient came."""
    for _ in range(2):
        gan.backward("critic_loss", {C: []})
        gan.step("critic_opt", C)
    assert gan.found == [("GG204", "critic_loss", C)]


def test_gradient_accumulation_is_not_stale(gan: Book) -> None:
    """Several backward passes before one step are meant, if the step is followed by a clear."""
    for _ in range(3):
        for _ in range(4):
            gan.backward("critic_loss", {C: []})
        assert gan.step("critic_opt", C) == []
        gan.clear(C)
    assert gan.found == []


def test_one_deposit_spent_by_two_optimizers_is_not_stale(gan: Book) -> None:
    """Two optimizers over one model are a matter of their own, not a missing clear."""
    gan.backward("critic_loss", {C: []})
    gan.step("first_opt", C)
    gan.step("second_opt", C)
    assert gan.found == []


def test_assumed_deposits_never_accuse(gan: Book) -> None:
    """What is taken to have repeated itself unseen is not held against anybody."""
    gan.backward("critic_loss", {C: [G], G: []}, assumed=True)
    gan.step("generator_opt", G)
    gan.backward("generator_loss", {C: [G], G: []}, assumed=True)
    gan.step("critic_opt", C)
    gan.backward("generator_loss", {C: []}, assumed=True)
    gan.step("generator_opt", G)
    gan.ledger.end()
    assert gan.found == []


@pytest.mark.parametrize("order", [(False, True), (True, False)])
def test_what_was_seen_accuses_though_it_was_assumed_to_come_again(
    gan: Book, order: tuple[bool, bool]
) -> None:
    """A guess neither accuses nor takes an accusation back, whichever comes first."""
    for assumed in order:
        gan.backward("critic_loss", {C: [G], G: []}, assumed=assumed)
    assert [finding.count for finding in gan.ledger.findings] == [1]
    gan.step("generator_opt", G)
    assert gan.found == [("GG103", "critic_loss", G)]


def test_a_spill_that_no_clear_could_have_removed_from_one_part_is_applied(gan: Book) -> None:
    """In whatever order the parts are looked at, the worse of two conclusions stands."""
    first, second = (Account((C,), part) for part in range(2))
    behind = frozenset({account(G)})
    gan.post(Backward("generator_loss", (Deposit(first, behind), Deposit(account(G)))))
    gan.post(Backward("critic_loss", (Deposit(first), Deposit(second))))
    gan.post(Backward("generator_loss", (Deposit(second, behind), Deposit(account(G)))))
    gan.post(Spend("critic_opt", frozenset({first, second})))
    assert gan.found == [("GG103", "generator_loss", C)]


def test_one_passing_part_of_a_model_is_enough(gan: Book) -> None:
    """The pair of loss and model is judged: what ends in the rest of the model is no leak."""
    ends = Deposit(Account((C,), 1))
    passes = Deposit(account(C), frozenset({account(G)}))
    gan.post(Backward("generator_loss", (ends, passes, Deposit(account(G)))))
    assert gan.found == [("GG102", "generator_loss", C)]


def test_a_loss_that_the_policy_does_not_name_is_not_judged(gan: Book) -> None:
    """It may put anything anywhere, twice over."""
    gan.backward("other_loss", {C: [], G: []})
    gan.step("optimizer", C, G)
    gan.step("optimizer", C, G)
    assert gan.found == []


def test_an_explicit_never_wins_over_an_allowed_owner() -> None:
    """A target that is the online network itself: allowed, unless it is forbidden by name."""
    shared = {"target+q": ()}
    tied = Book({"q_loss": "q"}, "target", "q")
    assert tied.backward("q_loss", shared) == []
    named = Book({"q_loss": {"must": "q", "never": "target"}}, "target", "q")
    named.backward("q_loss", shared)
    named.step("q_opt", "target+q")
    assert named.found == [("GG103", "q_loss", "target")]


def test_parameters_outside_all_models_lie_behind_only_if_the_rule_is_open() -> None:
    """Under `never` alone everything else may be trained, under `only` nothing else."""
    for policy, code in (({"loss": never(C)}, "GG102"), ({"loss": G}, "GG101")):
        book = Book(policy)
        book.backward("loss", {C: ["others"], G: []})
        assert book.found == [(code, "loss", C)]


def test_the_trace_of_a_leak_ends_where_its_loss_trains_what_it_should(gan: Book) -> None:
    """The step of the right optimizer closes the trace of the wasted gradient, once."""
    evidence = Evidence((TraceStep(gan.place(), "carries gradient"),), "detach it")
    deposits = (Deposit(account(C)), Deposit(account(G), evidence=evidence))
    gan.post(Backward("critic_loss", deposits, gan.place()))
    gan.step("critic_opt", C)
    gan.clear(C, G)
    gan.backward("critic_loss", {C: []})
    gan.step("critic_opt", C)
    [finding] = gan.ledger.findings
    assert [(step.location.row, step.message) for step in finding.trace] == [
        (1, "carries gradient"),
        (3, "trains `critic` only"),
    ]
    assert finding.help == "detach it"


def test_findings_of_one_event_come_in_the_order_of_the_models() -> None:
    """What a person reads twice reads the same twice: no order of hashing shows."""
    models = [f"model_{number}" for number in range(9)]
    book = Book({"loss": models[0]}, *models)
    shown = book.step("optimizer", coasting=models)
    assert [sighting.finding.model for sighting in shown] == models
    spilled = Book({"loss": models[0]}, *models)
    spilled.backward("loss", {models[0]: [], **{model: [] for model in models[1:]}})
    shown = spilled.step("optimizer", *models)
    assert [sighting.finding.model for sighting in shown] == models[1:]

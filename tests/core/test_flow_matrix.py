"""The matrix of what reaches what: reading it, checking it, and showing it safely."""

from __future__ import annotations

import html.parser
import io
import json
import re
from dataclasses import replace

import pytest
from rich.console import Console

from gradguard.core.events import Account, Backward, Deposit, Holder
from gradguard.core.flow import FlowMatrix, Reach, matrix_of
from gradguard.core.judgement import Kind
from gradguard.core.ledger import Ledger
from gradguard.core.policy import Policy, PolicyError, never

C, G, T = "critic", "generator", "target"
CRITIC, GENERATOR, TARGET = (Account((name,)) for name in (C, G, T))
POLICY = Policy.parse({"critic_loss": C, "generator_loss": G})
HOSTILE = ["<script>alert(1)</script>", "a & b", "\"'><td>", "losses[bold]['x']", "&lt;"]


def matrix() -> FlowMatrix:
    """Sum up an adversarial pair with a leak, a spill and a loss that nothing is known of."""
    ledger = Ledger(POLICY, (C, G, T))
    ledger.post(Backward("critic_loss", (Deposit(CRITIC), Deposit(GENERATOR))))
    spill = Deposit(CRITIC, frozenset({GENERATOR}))
    ledger.post(Backward("generator_loss", (spill, Deposit(GENERATOR))))
    ledger.post(Backward("other_loss", (Deposit(GENERATOR),)))
    return matrix_of(ledger, (C, G, T), zero=[("other_loss", T)])


def test_each_pair_has_its_reach() -> None:
    """A pair that nothing is known of is reached by nothing."""
    flow = matrix()
    expected = {
        ("critic_loss", C): Reach.REACHED,
        ("critic_loss", G): Reach.REACHED,
        ("critic_loss", T): Reach.NONE,
        ("generator_loss", C): Reach.REACHED,
        ("other_loss", C): Reach.NONE,
        ("other_loss", T): Reach.ZERO,
    }
    assert {pair: flow[pair] for pair in expected} == expected


def test_a_pair_that_does_not_exist_is_answered_with_what_does() -> None:
    """A misspelt name is an error that lists the names, and no `NONE`."""
    with pytest.raises(KeyError) as no_loss:
        matrix()["critic", C]
    assert no_loss.value.args == (
        "no loss 'critic'; the losses are: critic_loss, generator_loss, other_loss",
    )
    with pytest.raises(KeyError) as no_model:
        matrix()["critic_loss", "critc"]
    assert no_model.value.args == ("no model 'critc'; the models are: critic, generator, target",)


def test_gradient_that_came_outweighs_gradient_that_was_zero() -> None:
    """Once a loss has reached a model, a batch of zeros does not take that back."""
    ledger = Ledger(POLICY, (C, G))
    ledger.post(Backward("critic_loss", (Deposit(CRITIC),)))
    assert matrix_of(ledger, (C, G), zero=[("critic_loss", C)])["critic_loss", C] is Reach.REACHED


def test_a_shared_parameter_reaches_all_its_owners_and_the_worst_kind_is_shown() -> None:
    """Of several accounts of a pair the matrix shows the one that matters most."""
    ledger = Ledger(Policy.parse({"loss": {"only": C, "never": T}}), (C, G, T))
    shared = Account((T, C))
    ledger.post(Backward("loss", (Deposit(CRITIC), Deposit(shared))))
    flow = matrix_of(ledger, (C, G, T))
    assert [flow["loss", model] for model in (C, G, T)] == [
        Reach.REACHED,
        Reach.NONE,
        Reach.REACHED,
    ]
    assert flow.kinds == {("loss", C): Kind.LEAK, ("loss", T): Kind.LEAK}


def test_a_kind_is_kept_when_a_later_backward_decides_nothing() -> None:
    """Of a loss that misses what it must train nothing is concluded, before or after."""
    starved = Backward("critic_loss", (Deposit(GENERATOR),))
    leaking = Backward("critic_loss", (Deposit(CRITIC), Deposit(GENERATOR)))
    for order, kind in (
        ([starved], Kind.OPEN),
        ([starved, leaking], Kind.LEAK),
        ([leaking, starved], Kind.LEAK),
    ):
        ledger = Ledger(POLICY, (C, G))
        for event in order:
            ledger.post(event)
        assert matrix_of(ledger, (C, G)).kinds["critic_loss", G] is kind


def test_the_matrix_reads_as_a_table_with_a_legend() -> None:
    """Losses below each other, models beside each other, and only the signs that occur."""
    assert str(matrix()).splitlines() == [
        "                critic  generator  target",
        "critic_loss       ●         ✗        ·",
        "generator_loss    ○         ●        ·",
        "other_loss        ·         ◆        0",
        (
            "● meant  ✗ leaked  · no gradient  ○ spilled on the way  "
            "◆ reached  0 gradient that is all zero"
        ),
    ]


def test_unknown_and_starved_have_signs_of_their_own() -> None:
    """A starved pair is marked where the gradient is missing."""
    ledger = Ledger(POLICY, (C, G))
    ledger.post(Backward("critic_loss", (Deposit(GENERATOR),)))
    ledger.end()
    flow = matrix_of(ledger, (C, G))
    assert flow.starved == {("critic_loss", C)}
    assert str(flow).splitlines()[1] == "critic_loss    !         ◆"
    assert "! starved" in str(flow)
    unknown = FlowMatrix(("loss",), (C,), {("loss", C): Reach.UNKNOWN})
    assert str(unknown).splitlines()[1:] == ["loss    ?", "? unknown"]


def test_an_empty_matrix_says_that_nothing_has_happened() -> None:
    """Without losses or without models there is no table."""
    assert str(FlowMatrix((), (C,), {})) == "no loss has run backward yet"
    assert FlowMatrix((), (C,), {}).to_dict()["reach"] == {}
    with pytest.raises(KeyError, match="no loss 'loss'"):
        FlowMatrix((), (C,), {})["loss", C]


def test_the_matrix_as_data_is_plain_json() -> None:
    """Every pair is there by names, with its reach and what that is worth."""
    data = matrix().to_dict()
    assert json.loads(json.dumps(data)) == data
    assert data["losses"] == ["critic_loss", "generator_loss", "other_loss"]
    assert data["models"] == [C, G, T]
    assert data["reach"]["critic_loss"] == {C: "reached", G: "reached", T: "none"}
    assert data["kind"]["critic_loss"] == {C: "meant", G: "leaked", T: "no gradient"}
    assert data["reach"]["other_loss"][T] == "zero"


def test_the_matrix_comes_back_from_its_data() -> None:
    """All that is shown of it does, whatever sign a pair has."""
    flow = matrix()
    starved = replace(flow, starved=frozenset({("other_loss", C)}))
    for one in (flow, starved, FlowMatrix((), (), {})):
        again = FlowMatrix.from_dict(json.loads(json.dumps(one.to_dict())))
        assert again.to_dict() == one.to_dict()
        assert str(again) == str(one)


def test_matrices_of_several_runs_make_one_of_the_worst() -> None:
    """Whatever the order: a leak outweighs a meant gradient, and anything outweighs nothing."""
    clean = Ledger(POLICY, (C, G))
    clean.post(Backward("critic_loss", (Deposit(CRITIC),)))
    clean.post(Backward("last_loss", (Deposit(CRITIC),)))
    parts = [matrix_of(clean, (C, G)), matrix(), FlowMatrix(("other_loss",), (T,), {})]
    for order in (parts, parts[::-1]):
        merged = FlowMatrix.merged(order)
        assert set(merged.losses) == {"critic_loss", "generator_loss", "other_loss", "last_loss"}
        assert set(merged.models) == {C, G, T}
        assert merged.sign("critic_loss", G).words == "leaked"
        assert merged.sign("critic_loss", C).words == "meant"
        assert merged["other_loss", T] is Reach.ZERO
        assert merged["last_loss", C] is Reach.REACHED
    assert FlowMatrix.merged([]).to_dict() == FlowMatrix((), (), {}).to_dict()


class Cells(html.parser.HTMLParser):
    """Collects the text of headings and cells, and all tags."""

    def __init__(self) -> None:
        """Begin with nothing read."""
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag, and open a text where it holds one."""
        assert {name for name, _ in attrs} <= {"scope", "title"}
        self.tags.append(tag)
        if tag in {"th", "td"}:
            self.texts.append("")

    def handle_data(self, data: str) -> None:
        """Add to the text of the cell that is open."""
        if self.texts:
            self.texts[-1] += data


def test_a_notebook_shows_hostile_names_as_text() -> None:
    """Whatever a loss or a model is called, it adds no tag and loses no character."""
    cells = {(HOSTILE[0], HOSTILE[1]): Reach.REACHED}
    read = Cells()
    read.feed(FlowMatrix(tuple(HOSTILE), tuple(reversed(HOSTILE)), cells)._repr_html_())
    assert set(read.tags) == {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert read.tags.count("td") == len(HOSTILE) ** 2
    headings = [text for text in read.texts if text in HOSTILE]
    assert sorted(headings) == sorted(2 * HOSTILE)


def test_a_terminal_shows_hostile_names_as_text() -> None:
    """Brackets in names are no markup, and neither are the signs."""
    out = io.StringIO()
    flow = FlowMatrix(tuple(HOSTILE), tuple(HOSTILE), {(HOSTILE[0], HOSTILE[1]): Reach.REACHED})
    Console(file=out, width=400, color_system=None).print(flow)
    for name in HOSTILE:
        assert out.getvalue().count(name) >= 2
    assert re.findall(r"\[/?(?:dim|green|bold red)\]", out.getvalue()) == []
    assert "◆" in out.getvalue()


def found(flow: FlowMatrix, policy: object) -> list[tuple[str, str | None, str | None]]:
    """Check a policy and return what was found."""
    return [(f.code, f.loss, f.model) for f in flow.check(policy)]  # type: ignore[arg-type]


def test_checking_a_policy_finds_leaks_and_nothing_that_is_no_fault() -> None:
    """A spill may still be cleared, and of a loss without a rule nothing is said."""
    assert found(matrix(), POLICY) == [("GG101", "critic_loss", G)]
    assert found(matrix(), {"generator_loss": G}) == []
    assert found(matrix(), {"critic_loss": [C, G]}) == []
    assert found(matrix(), {"other_loss": never(G)}) == [("GG101", "other_loss", G)]


def test_checking_a_policy_finds_models_that_are_starved() -> None:
    """What must be reached and is not is an error, also if the matrix was made without a policy."""
    assert found(matrix(), {"critic_loss": [C, G, T]}) == [("GG301", "critic_loss", T)]
    [finding] = matrix().check({"other_loss": {"must": C}})
    assert (finding.code, str(finding.severity)) == ("GG301", "error")


def test_checking_a_policy_says_what_cannot_be_known() -> None:
    """An unknown pair that the policy speaks of is GG903, and neither starved nor a leak."""
    event = Backward("loss", (Deposit(CRITIC),), unknown=frozenset({G, T}))
    cells = {("loss", C): Reach.REACHED, ("loss", G): Reach.UNKNOWN, ("loss", T): Reach.UNKNOWN}
    flow = FlowMatrix(("loss",), (C, G, T), cells, backwards=(event,))
    assert found(flow, {"loss": {"must": [C, G]}}) == [("GG903", "loss", G)]
    assert found(flow, {"loss": never(T)}) == [("GG903", "loss", T)]


def test_checking_a_policy_tells_a_shadow_model_apart() -> None:
    """The holder of a model is part of what the matrix was made from."""
    event = Backward("loss", (Deposit(CRITIC), Deposit(TARGET, holder=Holder.SHADOW)))
    assert found(FlowMatrix(("loss",), (C, T), {}, backwards=(event,)), {"loss": C}) == [
        ("GG104", "loss", T)
    ]


def test_a_check_is_made_of_what_was_seen_and_not_of_what_was_assumed() -> None:
    """Where only some backward passes are looked at, the last that was looked at counts."""
    ledger = Ledger(POLICY, (C, G))
    event = Backward("critic_loss", (Deposit(CRITIC), Deposit(GENERATOR)))
    ledger.post(event)
    ledger.post(replace(event, assumed=True))
    assert found(matrix_of(ledger, (C, G)), POLICY) == [("GG101", "critic_loss", G)]


def test_a_check_may_be_repeated_and_changes_nothing() -> None:
    """Two policies are checked against one matrix without hearing of each other."""
    flow = matrix()
    before = flow.to_dict()
    first = flow.check(POLICY)
    flow.check({"critic_loss": [C, G, T]})
    assert flow.check(POLICY) == first
    assert [finding.count for finding in first] == [1]
    assert flow.to_dict() == before


def test_a_policy_that_names_no_model_of_the_matrix_is_refused() -> None:
    """A misspelt model would otherwise pass every check."""
    with pytest.raises(PolicyError, match="names `critc`, which matches no model"):
        matrix().check({"critic_loss": "critc"})

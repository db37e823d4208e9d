"""One missing clear is one finding, however many models and losses it shows in."""

from __future__ import annotations

from hypothesis import given, strategies as st

from gradguard.core.findings import Confidence, Finding, Location, Place, Severity
from gradguard.core.merging import merged

MODELS = ["actor", "critic", "encoder"]


def finding(code: str, row: int, model: str, loss: str, confidence: Confidence) -> Finding:
    """Make a finding as the ledger words it."""
    return Finding(
        code,
        "a-name",
        Severity.ERROR,
        f"`opt` steps `{model}` with gradient left over from `{loss}`",
        Place("train.py", Location(row, 1)),
        loss=loss,
        model=model,
        help=f"clear `{model}` first",
        confidence=confidence,
    )


findings = st.lists(
    st.builds(
        finding,
        st.sampled_from(["GG204", "GG101", "GG301"]),
        st.integers(1, 3),
        st.sampled_from(MODELS),
        st.sampled_from(["loss", "other"]),
        st.sampled_from([Confidence.LOW, Confidence.HIGH]),
    ),
    max_size=8,
)


@given(findings)
def test_no_place_and_no_model_is_lost(given_findings: list[Finding]) -> None:
    """Merging keeps every code, place and degree of sureness, and names every model there."""
    told = merged(given_findings)
    for one in given_findings:
        assert any(
            (other.code, other.place, other.confidence) == (one.code, one.place, one.confidence)
            and f"`{one.model}`" in other.message
            for other in told
        )


@given(findings)
def test_a_step_is_accused_once_and_a_leak_once_for_each_loss(
    given_findings: list[Finding],
) -> None:
    """What one clear, or one detach, would mend is merged; other codes stay apart."""
    told = merged(given_findings)
    stale = [(one.place, one.confidence) for one in told if one.code == "GG204"]
    assert len(stale) == len(set(stale))
    leaks = {(f.place, f.confidence, f.loss) for f in given_findings if f.code == "GG101"}
    assert len([one for one in told if one.code == "GG101"]) == len(leaks)
    others = [one for one in given_findings if one.code == "GG301"]
    assert [one for one in told if one.code == "GG301"] == others


def test_the_models_are_listed_in_sentence_and_help() -> None:
    """Three models read as a list; a single one is left as it was."""
    group = [finding("GG204", 9, model, "loss", Confidence.HIGH) for model in MODELS]
    [one] = merged(group)
    listed = "`actor`, `critic` and `encoder`"
    assert one.message == f"`opt` steps {listed} with gradient left over from `loss`"
    assert one.help == f"clear {listed} first"
    assert merged(group[:1]) == group[:1]


def test_many_models_are_counted() -> None:
    """A list that nobody would read to its end is cut."""
    group = [finding("GG101", 9, f"m{n}", "loss", Confidence.HIGH) for n in range(12)]
    [one] = merged(group)
    assert "`m0`, `m1`, `m2` and 9 more" in one.message

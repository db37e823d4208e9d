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
        st.sampled_from(["GG204", "GG101"]),
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
def test_a_step_is_accused_once_and_leaks_stay_apart(given_findings: list[Finding]) -> None:
    """Only what one clear would mend is merged."""
    told = merged(given_findings)
    stale = [(one.place, one.confidence) for one in told if one.code == "GG204"]
    assert len(stale) == len(set(stale))
    leaks = [one for one in given_findings if one.code == "GG101"]
    assert [one for one in told if one.code == "GG101"] == leaks


def test_the_models_are_listed_in_sentence_and_help() -> None:
    """Three models read as a list; a single one is left as it was."""
    group = [finding("GG204", 9, model, "loss", Confidence.HIGH) for model in MODELS]
    [one] = merged(group)
    listed = "`actor`, `critic` and `encoder`"
    assert one.message == f"`opt` steps {listed} with gradient left over from `loss`"
    assert one.help == f"clear {listed} first"
    assert merged(group[:1]) == group[:1]

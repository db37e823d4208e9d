"""Words for codes: what they stand for, and which of two that disagree decides."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from gradguard.core.codes import UnknownCode, catalogue
from gradguard.core.selection import defaults, expand, select

CODES = sorted(catalogue())
WORDS = st.sampled_from(
    ["ALL", "all", "GG", "GG1", "gg2", "GG30", *CODES, *(one.name for one in catalogue().values())]
)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("GG103", ["GG103"]),
        (" gg103 ", ["GG103"]),
        ("Applied_Leak", ["GG103"]),
        ("GG30", ["GG301", "GG302", "GG303"]),
        ("ALL", CODES),
        ("GG", CODES),
    ],
)
def test_a_word_stands_for_a_code_or_for_all_that_begin_so(word: str, meant: list[str]) -> None:
    """Codes, names, beginnings and ALL are understood in any case."""
    assert sorted(expand(word)) == meant


@pytest.mark.parametrize("word", ["", "G", "GG109", "E501", "leak", "GG1*"])
def test_a_word_for_nothing_is_refused(word: str) -> None:
    """What matches no code is an error rather than an empty selection."""
    with pytest.raises(UnknownCode, match="unknown code"):
        expand(word)


def test_without_a_wish_the_codes_on_by_default_are_reported() -> None:
    """Only what is on by default is selected, less what is not wanted."""
    assert select(None) == defaults()
    assert defaults() - select(None, ["GG3"]) == expand("GG3")


@pytest.mark.parametrize(
    ("wanted", "unwanted", "meant"),
    [
        (["GG1"], ["GG101"], expand("GG1") - {"GG101"}),
        (["GG101"], ["GG1"], {"GG101"}),
        (["leaking-loss"], ["ALL"], {"GG101"}),
        (["GG1"], ["GG1"], set()),
        (["ALL"], [], set(CODES)),
        (["ALL", "GG102"], ["GG1"], set(CODES) - expand("GG1") | {"GG102"}),
    ],
)
def test_the_more_exact_word_decides(
    wanted: list[str], unwanted: list[str], meant: set[str]
) -> None:
    """A code beats a beginning, and a tie goes to what is not wanted."""
    assert select(wanted, unwanted) == meant


@given(st.lists(WORDS), st.lists(WORDS))
def test_a_selection_lies_between_what_is_wanted_and_what_nobody_refuses(
    wanted: list[str], unwanted: list[str]
) -> None:
    """Nothing unasked is selected, and nothing asked and not refused is missing."""
    asked = frozenset().union(*map(expand, wanted))
    refused = frozenset().union(*map(expand, unwanted))
    assert asked - refused <= select(wanted, unwanted) <= asked

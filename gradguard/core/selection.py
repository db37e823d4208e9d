"""Which codes are meant: words such as ``GG1``, ``applied-leak`` or ``ALL``, and sets of them."""

from __future__ import annotations

from collections.abc import Iterable

from gradguard.core.codes import catalogue, code

__all__ = ["defaults", "expand", "select"]

_EVERYTHING = "ALL"


def expand(word: str) -> frozenset[str]:
    """Return the codes that a word stands for.

    Args:
        word: A code, a name, the beginning of codes such as ``GG1``, or ``ALL``.

    Raises:
        UnknownCode: If it stands for none; the message suggests the nearest.

    Example:
        >>> sorted(expand("applied-leak") | expand("GG90"))
        ['GG103', 'GG901', 'GG902', 'GG903']
    """
    prefix = word.strip().upper()
    if prefix == _EVERYTHING:
        return frozenset(catalogue())
    if prefix.startswith("GG"):
        covered = frozenset(known for known in catalogue() if known.startswith(prefix))
        if covered:
            return covered
    return frozenset({code(word).code})


def defaults() -> frozenset[str]:
    """Return the codes that are reported unless something else is asked for."""
    return frozenset(entry.code for entry in catalogue().values() if entry.on_by_default)


def select(wanted: Iterable[str] | None, unwanted: Iterable[str] = ()) -> frozenset[str]:
    """Return the codes that are wanted and not unwanted; the more exact word decides.

    Args:
        wanted: Words for the codes to report; ``None`` stands for those on by default.
        unwanted: Words for the codes not to report; they win over words that are as exact.

    Raises:
        UnknownCode: If a word stands for no code.

    Example:
        >>> sorted(select(["GG10", "GG204"], ["GG1"]))
        ['GG101', 'GG102', 'GG103', 'GG104', 'GG105', 'GG107', 'GG204']
    """
    asked = dict.fromkeys(defaults(), 0) if wanted is None else _exactness(wanted)
    refused = _exactness(unwanted)
    return frozenset(known for known, rank in asked.items() if rank > refused.get(known, -1))


def _exactness(words: Iterable[str]) -> dict[str, int]:
    """Map each code that a word covers to how exact the most exact of these words is."""
    found: dict[str, int] = {}
    for word in words:
        for known in expand(word):
            found[known] = max(_rank(word.strip().upper()), found.get(known, 0))
    return found


def _rank(word: str) -> int:
    if word == _EVERYTHING:
        return 0
    return len(word) if word.startswith("GG") else len("GG101")

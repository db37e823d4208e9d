"""One finding for one deposit: what the ledger and the facts of a run both tell is told once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from gradguard.core.findings import Finding, Severity

__all__ = ["Facts", "told_once"]

_FOREIGN = frozenset({"GG101", "GG103", "GG104"})
"""Codes of gradient that lies where it does not belong."""
_STARVED = "GG301"
_UNTRAINED = "GG203"


@dataclass(slots=True)
class Facts:
    """What the facts of a run betray with nothing declared.

    Attributes:
        found: All of it.
        unfed: Those about a loss that reaches nothing of what steps after it, by loss.
    """

    found: list[Finding] = field(default_factory=list)
    unfed: dict[str, Finding] = field(default_factory=dict)


def told_once(
    accused: Iterable[Finding],
    facts: Facts,
    *,
    declared: Mapping[str, str],
    held: Collection[str],
) -> list[Finding]:
    """Return what was found, without the consequences of what is told as well.

    A loss that reaches nothing of what it is to train is starved, and what it reaches instead is a
    consequence: it makes the finding as severe as it is itself. What nobody holds by a mistake is
    no leak into a foreign model. Where a loss is declared, what its rule says is the finding.

    Args:
        accused: What the ledger has found.
        facts: What else was found.
        declared: The losses and terms that have a rule, each with the loss that ran backward.
        held: The models of which an optimizer holds something.
    """
    found = list(accused)
    by_rule = {declared.get(f.loss or "") for f in found if _tells(f)}
    unfed = {loss: fact for loss, fact in facts.unfed.items() if loss not in by_rule}
    untrained = [f for f in facts.found if f.code == _UNTRAINED and f.loss not in facts.unfed]
    losses = {fact.loss for fact in untrained} - {None}
    models = {fact.model for fact in untrained}
    kept: list[Finding] = []
    for one in found:
        fact = unfed.get(one.loss or "")
        if fact is not None and one.code in _FOREIGN and one.loss is not None:
            severity = min(fact.severity, one.severity, key=list(Severity).index)
            count = max(fact.count, one.count)
            unfed[one.loss] = replace(fact, severity=severity, count=count)
        elif one.code in _FOREIGN - {"GG103"} and one.model not in held:
            if one.loss not in losses and one.model not in models:
                kept.append(one)
        else:
            kept.append(one)
    others = [fact for fact in facts.found if facts.unfed.get(fact.loss or "") is not fact]
    return [*kept, *others, *unfed.values()]


def _tells(finding: Finding) -> bool:
    return finding.code in _FOREIGN or finding.code == _STARVED

"""One finding for each root cause, where the ledger tells it once for each model and loss."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gradguard.core.findings import Finding

__all__ = ["merged"]

_ONE_CAUSE = frozenset({"GG204"})
"""Codes whose cause is the place alone: a clear that is missing before, or after, a step."""


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Merge findings that one change would mend, keeping the order.

    A step for which nothing was cleared consumes what several losses have left in several models.
    It is told once, for the first loss, with all the models.

    Args:
        findings: Findings of any codes.

    Example:
        >>> from gradguard.core.findings import Location, Place, Severity
        >>> place = Place("train.py", Location(9, 1))
        >>> def stale(model):
        ...     text = f"`opt` steps `{model}` with gradient left over from `loss`"
        ...     return Finding("GG204", "stale-gradient", Severity.ERROR, text, place, model=model)
        >>> [one] = merged([stale("actor"), stale("critic")])
        >>> one.message
        '`opt` steps `actor` and `critic` with gradient left over from `loss`'
    """
    groups: dict[object, list[Finding]] = {}
    for finding in findings:
        cause = (finding.code, finding.place, finding.confidence)
        key = cause if finding.code in _ONE_CAUSE else id(finding)
        groups.setdefault(key, []).append(finding)
    return [_together(group) for group in groups.values()]


def _together(group: list[Finding]) -> Finding:
    first = group[0]
    models = list(dict.fromkeys(one.model for one in group if one.model))
    if len(models) < 2:
        return first
    own = f"`{first.model}`"
    *others, last = [f"`{model}`" for model in models]
    every = f"{', '.join(others)} and {last}"
    return replace(
        first,
        message=first.message.replace(own, every, 1),
        help=first.help.replace(own, every, 1) if first.help else None,
        count=max(one.count for one in group),
    )

"""One finding for each root cause, where the ledger tells it once for each model and loss."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gradguard.core.findings import Finding

__all__ = ["merged"]

_OF_PLACE = frozenset({"GG204"})
"""Codes whose cause is the place alone: a clear that is missing before, or after, a step."""
_OF_LOSS = frozenset({"GG101"})
"""Codes whose cause is the place and the loss: what lies behind the tensor that enters there."""
_NAMED = 4


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Merge findings that one change would mend, keeping the order.

    A step for which nothing was cleared consumes what several losses have left in several models,
    and a loss reaches all the models behind what was not detached. Either is told once, for the
    first loss, with the models.

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
        loss = finding.loss if finding.code in _OF_LOSS else None
        cause = (finding.code, finding.place, finding.confidence, loss)
        key = cause if finding.code in _OF_PLACE | _OF_LOSS else id(finding)
        groups.setdefault(key, []).append(finding)
    return [_together(group) for group in groups.values()]


def _together(group: list[Finding]) -> Finding:
    first = group[0]
    models = list(dict.fromkeys(one.model for one in group if one.model))
    if len(models) < 2:
        return first
    own = f"`{first.model}`"
    names = [f"`{model}`" for model in models]
    if len(names) > _NAMED:
        names[_NAMED - 1 :] = [f"{len(names) - _NAMED + 1} more"]
    every = f"{', '.join(names[:-1])} and {names[-1]}"
    return replace(
        first,
        message=first.message.replace(own, every, 1),
        help=first.help.replace(own, every, 1) if first.help else None,
        count=max(one.count for one in group),
    )

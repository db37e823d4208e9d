"""What copies are called: `target_critic` beside `critic`."""

from __future__ import annotations

import re

__all__ = ["namesake", "targets"]

_COPIED = re.compile(
    r"_?(?:target|targ|tgt|ema|momentum|averaged|slow|lagged|old)_?(?!$)|"
    r"_?(?:target|targ|tgt|ema|momentum|averaged|slow|lagged|old)$"
)


def namesake(top: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return what the model is called of which one is called the target, or the average."""
    if not top or not _COPIED.search(top[-1]):
        return None
    return (*top[:-1], _COPIED.sub("", top[-1], count=1))


_ONLINE = re.compile(r"_?(?:online|main|local|current|student|learner|q)_?")


def targets(path: tuple[str, ...], origin: tuple[str, ...]) -> bool:
    """Say whether a copy is called the target, or the average, of what it is copied from."""
    for number, (one, two) in enumerate(zip(path, origin, strict=False)):
        if one != two:
            named = namesake(path[: number + 1])
            return named is not None and _ONLINE.sub("", two) in (named[-1], "")
    return False

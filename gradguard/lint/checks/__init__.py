"""The checks that look at what reach alone cannot tell: one module each, found by walking."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from functools import cache

from gradguard.core.findings import Finding
from gradguard.lint.story import Story

__all__ = ["Check", "all_checks"]

Check = Callable[[Story], Iterable[Finding]]


@cache
def all_checks() -> tuple[Check, ...]:
    """Return every check, in the order of the modules' names."""
    found = sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name[0] != "_")
    return tuple(importlib.import_module(f"{__name__}.{name}").check for name in found)

"""Keep every loss to the models it is meant to train.

The vocabulary, policies and findings need nothing but Python; whatever watches a live process
loads torch at its first use. Every name is loaded at its first use, so that the import itself
costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from gradguard import strategies
    from gradguard.core.findings import (
        Finding,
        IsolationError,
        IsolationWarning,
        Location,
        Place,
        Severity,
        TraceStep,
    )
    from gradguard.core.flow import FlowMatrix, Reach
    from gradguard.core.policy import Policy, PolicyError, Rule, may, must, never
    from gradguard.runtime import Guard, assert_isolated, backward, flow, frozen, only
    from gradguard.search import check_isolation

__version__ = "0.1.0"

__all__ = [
    "Finding",
    "FlowMatrix",
    "Guard",
    "IsolationError",
    "IsolationWarning",
    "Location",
    "Place",
    "Policy",
    "PolicyError",
    "Reach",
    "Rule",
    "Severity",
    "TraceStep",
    "assert_isolated",
    "backward",
    "check_isolation",
    "flow",
    "frozen",
    "may",
    "must",
    "never",
    "only",
    "strategies",
]

_HOMES = {
    "gradguard.core.findings": (
        "Finding IsolationError IsolationWarning Location Place Severity TraceStep"
    ),
    "gradguard.core.flow": "FlowMatrix Reach",
    "gradguard.core.policy": "Policy PolicyError Rule may must never",
    "gradguard.runtime": "Guard assert_isolated backward flow frozen only",
    "gradguard.search": "check_isolation",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """Load a public name at its first use."""
    if name == "strategies":
        return importlib.import_module("gradguard.strategies")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'gradguard' has no attribute {name!r}")
    try:
        home = importlib.import_module(_HOME_OF[name])
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "torch":
            raise
        return _unavailable(name, error)
    found = getattr(home, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """List the public names, those not loaded yet included."""
    return sorted({*globals(), *__all__})


def _unavailable(name: str, cause: ImportError) -> Any:
    """Stand in for a run-time name where torch is missing: it says so when it is called."""

    def missing(*_: Any, **__: Any) -> NoReturn:
        raise ImportError(
            f"gradguard.{name} needs PyTorch: pip install 'gradguard[torch]'", name="torch"
        ) from cause

    missing.__name__ = missing.__qualname__ = name
    return missing

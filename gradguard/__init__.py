"""Keep every loss to the models it is meant to train.

The vocabulary, policies and findings need nothing but Python; whatever watches a live process
loads torch at its first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, NoReturn

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

if TYPE_CHECKING:
    from gradguard.runtime import Guard, assert_isolated, backward, flow, frozen, only

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
    "flow",
    "frozen",
    "may",
    "must",
    "never",
    "only",
]

_RUNTIME = frozenset({"Guard", "assert_isolated", "backward", "flow", "frozen", "only"})


def __getattr__(name: str) -> Any:
    """Load a name of the run-time half at its first use."""
    if name not in _RUNTIME:
        raise AttributeError(f"module 'gradguard' has no attribute {name!r}")
    try:
        runtime = importlib.import_module("gradguard.runtime")
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "torch":
            raise
        return _unavailable(name, error)
    found = getattr(runtime, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """List the public names, those of the run-time half included."""
    return sorted({*globals(), *__all__})


def _unavailable(name: str, cause: ImportError) -> Any:
    """Stand in for a run-time name where torch is missing: it says so when it is called."""

    def missing(*_: Any, **__: Any) -> NoReturn:
        raise ImportError(
            f"gradguard.{name} needs PyTorch: pip install 'gradguard[torch]'", name="torch"
        ) from cause

    missing.__name__ = missing.__qualname__ = name
    return missing

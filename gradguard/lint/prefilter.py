"""What is worth executing: a file without any of these words has nothing to report."""

from __future__ import annotations

import re

__all__ = ["may_train", "prefilter", "trains"]

# Each begins with letters, which are looked for many times faster than anything else is: what must
# not stand before them is looked at behind them.
_LOSS = re.compile(r"\.\s*backward\b")
_LOSS_WORDS = ("manual_backward", "zero_grad", "training_step", "gradguard")
_MINIMIZE = re.compile(r"minimize(?<!\wminimize)\b")
_STEP = re.compile(r"\.\s*step\s*\(")
# A freeze that does nothing shows by itself: the name is misspelt, or a module's attribute.
_MISSPELT = re.compile(r"require(?<!\wrequire)(?:_grads?|s_grads|s_gradients?)\b")
_OWNERS = (r"\bp", "param", "parameter", "weight", "bias", r"\bout")
_ATTRIBUTE = re.compile(
    r"\.requires_grad" + "".join(rf"(?<!{one}\.requires_grad)" for one in _OWNERS) + r"\s*=[^=]"
)
_RUN_BACKWARD = (_LOSS, _MINIMIZE)
_INEFFECTIVE = (_MISSPELT, _ATTRIBUTE)
_FRAMEWORK = re.compile(r"\btorch\b|\blightning\b|\baccelerate\b|gradguard")


def prefilter(text: str) -> bool:
    r"""Say whether a file may hold something to report.

    Example:
        >>> prefilter("import math\nprint(math.pi)")
        False
        >>> prefilter("import torch\nobservation = env.step(action)")
        False
    """
    if not may_train(text):
        return False
    if trains(text) or any(expression.search(text) is not None for expression in _INEFFECTIVE):
        return True
    return _STEP.search(text) is not None and "optim" in text.lower()


def may_train(text: str) -> bool:
    """Say whether a file speaks of a framework that trains anything."""
    return _FRAMEWORK.search(text) is not None


def trains(text: str) -> bool:
    """Say whether a file may run a loss backward, or clear gradients."""
    return any(word in text for word in _LOSS_WORDS) or any(
        expression.search(text) is not None for expression in _RUN_BACKWARD
    )

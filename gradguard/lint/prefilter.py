"""What is worth executing: a file without any of these words has nothing to report."""

from __future__ import annotations

import re

__all__ = ["prefilter"]

_LOSS = re.compile(
    r"\.\s*backward\b|manual_backward|zero_grad|training_step|\bminimize\b|gradguard"
)
_STEP = re.compile(r"\.\s*step\s*\(")
_FREEZE = re.compile(
    # A freeze that does nothing shows by itself: the name is misspelt, or a module's attribute.
    r"\brequire_grads?\b|\brequires_grads\b|\brequires_gradients?\b|"
    r"(?<!\bp)(?<!param)(?<!parameter)(?<!weight)(?<!bias)(?<!\bout)\.requires_grad\s*=[^=]"
)
_FRAMEWORK = re.compile(r"\btorch\b|\blightning\b|\baccelerate\b|gradguard")


def prefilter(text: str) -> bool:
    r"""Say whether a file may hold something to report.

    Example:
        >>> prefilter("import math\nprint(math.pi)")
        False
        >>> prefilter("import torch\nobservation = env.step(action)")
        False
    """
    if _FRAMEWORK.search(text) is None:
        return False
    if _LOSS.search(text) is not None or _FREEZE.search(text) is not None:
        return True
    return "optim" in text.lower() and _STEP.search(text) is not None

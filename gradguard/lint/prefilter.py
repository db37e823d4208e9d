"""What is worth parsing: a file without any of these words has nothing to report."""

from __future__ import annotations

import re

__all__ = ["prefilter"]

_DOORS = re.compile(
    r"\.\s*backward\b|manual_backward|autograd|\.step\s*\(|zero_grad|requires?_grads?\b|"
    r"requires_gradient|training_step|gradguard"
)
_FRAMEWORK = re.compile(r"\btorch\b|\blightning\b|\baccelerate\b|gradguard")


def prefilter(text: str) -> bool:
    r"""Say whether a file may hold something to report.

    Example:
        >>> prefilter("import math\nprint(math.pi)")
        False
    """
    return _DOORS.search(text) is not None and _FRAMEWORK.search(text) is not None

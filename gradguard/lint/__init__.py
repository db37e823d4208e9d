"""Events from source: a front end and an abstract execution that never run the user's code."""

from __future__ import annotations

from gradguard.lint.files import Source, Sources
from gradguard.lint.runner import TIME_LIMIT, lint_sources

__all__ = ["TIME_LIMIT", "Source", "Sources", "lint_sources"]

"""Findings and flow matrices for people and machines: text, JSON, SARIF, GitHub, HTML.

Nothing here needs torch or libcst, and only :func:`html` needs Jinja2.
"""

from __future__ import annotations

from gradguard.report.formats import FORMATS, Format, render, show, totals
from gradguard.report.page import html, save

__all__ = ["FORMATS", "Format", "html", "render", "save", "show", "totals"]

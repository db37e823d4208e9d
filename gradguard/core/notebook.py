"""How findings and matrices look in a notebook: tables that need no style sheet and no script."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from gradguard.core.layout import finding_lines, plain, visible

if TYPE_CHECKING:
    from gradguard.core.findings import Finding
    from gradguard.core.flow import FlowMatrix

__all__ = ["notebook_finding", "notebook_matrix"]


def notebook_finding(finding: Finding) -> str:
    """Return a finding as HTML: the text that a terminal shows, its severity as a title."""
    text = escape(plain(finding_lines(finding)))
    return f'<pre title="{escape(finding.severity)}: {escape(finding.name)}">{text}</pre>'


def notebook_matrix(matrix: FlowMatrix) -> str:
    """Return a matrix as an HTML table, with each pair in words beside its sign."""
    head = "".join(f'<th scope="col">{escape(visible(model))}</th>' for model in matrix.models)
    body = "".join(
        f'<tr><th scope="row">{escape(visible(loss))}</th>'
        + "".join(
            f'<td title="{sign.words}">{sign.mark} {sign.words}</td>'
            for sign in (matrix.sign(loss, model) for model in matrix.models)
        )
        + "</tr>"
        for loss in matrix.losses
    )
    return (
        "<table><caption>what reaches what</caption>"
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>"
    )

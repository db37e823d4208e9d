"""The report as one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import gradguard
from gradguard.core.codes import Code, catalogue
from gradguard.core.findings import Finding, Severity
from gradguard.core.flow import FlowMatrix, Sign
from gradguard.core.layout import relative, visible
from gradguard.core.timeline import Timeline
from gradguard.report.drawing import Drawing, drawing
from gradguard.report.excerpt import Excerpt, excerpts
from gradguard.report.lanes import lanes

__all__ = ["html", "save"]

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class _Shown:
    """A finding with what is drawn of it."""

    number: int
    finding: Finding
    path: str
    excerpts: Sequence[Excerpt]
    drawing: Drawing | None
    tests: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Cell:
    """A pair of the matrix, and the number of the first finding about it."""

    sign: Sign
    model: str
    finding: int | None


def html(
    findings: Iterable[Finding],
    *,
    matrix: FlowMatrix | None = None,
    timeline: Timeline | None = None,
    figures: Mapping[str, object] | None = None,
    unknown: Iterable[tuple[str, str]] = (),
    tests: Sequence[Sequence[str]] = (),
    timeline_of: str | None = None,
    title: str = "gradguard report",
) -> str:
    """Return a report as one self-contained HTML page.

    Args:
        findings: What was found, in the order to show it in.
        matrix: What reaches what.
        timeline: The first events of the ledger.
        figures: Figures of the run by name, such as ``{"steps": 400, "seconds": 3.2}``.
        unknown: What could not be known, each with the reason, beyond what findings and matrix
            say of it.
        tests: For each finding the tests that made it, where it was tests that were watched.
        timeline_of: What the timeline is of, where that is not the whole of what was seen.
        title: The heading of the page.

    Raises:
        ImportError: If Jinja2 is not installed.

    Example:
        >>> html([], title="nightly").startswith("<!doctype html>")
        True
    """
    found = list(findings)
    models = frozenset(matrix.models if matrix is not None else ())
    models |= {finding.model for finding in found if finding.model}
    shown = [
        _Shown(
            number,
            finding,
            f"{relative(finding.filename)}:{finding.location.row}:{finding.location.column}",
            excerpts(finding),
            drawing(finding, models),
            tests[number - 1] if tests else (),
        )
        for number, finding in enumerate(found, 1)
    ]
    counts = Counter(finding.severity for finding in found)
    script = (_TEMPLATES / "page.js").read_text("utf-8")
    return str(
        _template().render(
            title=title,
            version=gradguard.__version__,
            findings=shown,
            counts=[(severity, counts[severity]) for severity in Severity if counts[severity]],
            codes=_codes(found),
            matrix=matrix,
            rows=_rows(matrix, found) if matrix is not None else [],
            signs=_signs(matrix),
            timeline_of=timeline_of,
            lanes=lanes(timeline) if timeline is not None and timeline.entries else None,
            figures=_figures(found, matrix, figures or {}),
            unknown=[*_unknown(found, matrix), *unknown],
            style=(_TEMPLATES / "page.css").read_text("utf-8"),
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


def save(path: Path, text: str) -> None:
    """Write a report whole or not at all.

    Args:
        path: The file; its folder is made if it is missing.
        text: What to write, as UTF-8.

    Raises:
        OSError: If it cannot be written; what was there before is left as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        error.filename = str(path)
        raise
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        mask = os.umask(0)
        os.umask(mask)
        Path(scratch).chmod(0o666 & ~mask)
        Path(scratch).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(scratch).unlink()
        raise


@cache
def _template() -> Any:
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise ImportError(
            "the HTML report needs Jinja2: pip install 'gradguard[report]'", name="jinja2"
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = lambda text: visible(str(text))
    environment.filters["prose"] = _prose
    return environment.get_template("page.html")


def _prose(text: str) -> Any:
    """Set what is quoted in backticks as code, and escape everything."""
    from markupsafe import Markup, escape

    quoted = escape(visible(text)).split("`")
    if len(quoted) % 2 == 0:  # A backtick without its twin is only a character.
        quoted[-2:] = [quoted[-2] + "`" + quoted[-1]]
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else part
        for number, part in enumerate(quoted)
    )


def _rows(matrix: FlowMatrix, found: Sequence[Finding]) -> list[tuple[str, list[_Cell]]]:
    """Return the rows of the matrix, each pair with the first finding about it."""
    about: dict[tuple[str | None, str | None], int] = {}
    for number, finding in enumerate(found, 1):
        about.setdefault((finding.loss, finding.model), number)
    return [
        (
            loss,
            [
                _Cell(matrix.sign(loss, model), model, about.get((loss, model)))
                for model in matrix.models
            ],
        )
        for loss in matrix.losses
    ]


def _signs(matrix: FlowMatrix | None) -> list[Sign]:
    if matrix is None:
        return []
    used = {matrix.sign(loss, model) for loss in matrix.losses for model in matrix.models}
    return [sign for sign in Sign if sign in used]


def _codes(found: Sequence[Finding]) -> list[Code]:
    used = {finding.code for finding in found}
    return [entry for entry in catalogue().values() if entry.code in used]


def _figures(
    found: Sequence[Finding], matrix: FlowMatrix | None, given: Mapping[str, object]
) -> list[tuple[str, str]]:
    own: dict[str, object] = {"findings": len(found)}
    if matrix is not None:
        own |= {"losses": len(matrix.losses), "models": len(matrix.models)}
    return [(name, _number(value)) for name, value in (own | dict(given)).items()]


def _number(value: object) -> str:
    return (
        f"{value:,.3g}"
        if isinstance(value, float) and abs(value) < 1000
        else (f"{value:,.0f}" if isinstance(value, int | float) else str(value))
    )


def _unknown(found: Sequence[Finding], matrix: FlowMatrix | None) -> list[tuple[str, str]]:
    """Return what was unknown and why, as findings and matrix have it."""
    told = [
        (finding.message, "; ".join(step.message for step in finding.trace) or finding.help or "")
        for finding in found
        if finding.code == "GG903"
    ]
    said = {(finding.loss, finding.model) for finding in found if finding.code == "GG903"}
    if matrix is not None:
        reason = "only a region that cannot be looked into lies on the way"
        told += [
            (f"whether `{loss}` reaches `{model}`", reason)
            for loss in matrix.losses
            for model in matrix.models
            if matrix.sign(loss, model) is Sign.UNKNOWN and (loss, model) not in said
        ]
    return told

"""Many files, linted: by one process or several, and what is left to report."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from gradguard.config import Config
from gradguard.core.codes import catalogue
from gradguard.core.findings import Confidence, Finding, Severity
from gradguard.core.suppressions import Suppressions
from gradguard.lint.files import Source, Sources, project_root
from gradguard.lint.fixes import FIXABLE, with_fixes
from gradguard.lint.inspection import Inspection, inspect, source_text, unreadable
from gradguard.lint.pool import inspect_in_parallel
from gradguard.lint.project import Project, Unreadable

__all__ = ["TIME_LIMIT", "lint_sources"]

TIME_LIMIT = 10.0
"""Seconds that one file may take."""

_NUMBER = re.compile(r" \(\d+(?:, \d+)?\)$")

_WORTH_A_PROCESS = 200_000
"""Bytes of source from which on another process pays for its start."""


def lint_sources(
    sources: Sources,
    *,
    jobs: int | None = None,
    time_limit: float = TIME_LIMIT,
    fixes: bool = False,
) -> list[Finding]:
    """Lint files and return what is to be reported, in the order of files and rows.

    Args:
        sources: What was found to lint.
        jobs: How many processes may work on it; as many as there are processors by default.
        time_limit: Seconds after which a file is given up.
        fixes: Whether to look for what makes the findings go away.
    """
    files = sources.files
    roots = _roots(files)
    workers = _workers(files, jobs)
    if workers > 1:
        inspections = inspect_in_parallel(files, roots, workers, time_limit)
    else:
        project = Project(roots)
        inspections = [inspect(source, project, time_limit) for source in files]
    closed = [
        (source, unreadable(source.path, f"cannot be read: {reason}"))
        for source, reason in sources.unreadable
    ]
    reported = _reported(
        [*files, *(source for source, _ in closed)],
        [*inspections, *(inspection for _, inspection in closed)],
    )
    return _with_fixes(reported, files, roots, time_limit) if fixes else reported


def _with_fixes(
    findings: list[Finding], files: Sequence[Source], roots: Sequence[Path], seconds: float
) -> list[Finding]:
    """Return the findings, those with a fix that have one."""
    sources = {str(source.path): source for source in files}
    fixed: list[Finding] = []
    for name, own in itertools.groupby(findings, key=lambda one: one.filename):
        source = sources.get(name)
        here = list(own)
        if source is not None and any(one.code in FIXABLE for one in here):
            here = with_fixes(here, source, Project(roots), seconds)
        fixed += here
    return fixed


def _roots(sources: Iterable[Source]) -> list[Path]:
    """Return the folders from which imports of the project can lead to its files."""
    folders = dict.fromkeys(source.path.parent for source in sources)
    roots = dict.fromkeys(project_root(folder) for folder in folders)
    roots |= dict.fromkeys(folder for source in sources for folder in source.config.src)
    return list(roots)


def _workers(sources: Sequence[Source], jobs: int | None) -> int:
    """Return how many processes the files are worth."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    wanted = min(jobs or allowed or 1, len(sources))
    if wanted <= 1:
        return 1
    size = 0
    for source in sources:
        with contextlib.suppress(OSError):
            size += source.path.stat().st_size
        if size >= wanted * _WORTH_A_PROCESS:
            break
    return min(wanted, size // _WORTH_A_PROCESS)


def _reported(sources: Sequence[Source], inspections: Iterable[Inspection]) -> list[Finding]:
    """Return what is to be reported of all that was found.

    A finding may lie in a file that the one at hand imports. There the comments and the settings
    of that file count, and it is reported once, however many files lead to it.
    """
    settings = {str(source.path): source.config for source in sources}
    files = {str(inspection.path): inspection for inspection in inspections}
    found: dict[str, list[Finding]] = {name: [] for name in files}
    for inspection in files.values():
        for finding in inspection.findings:
            config = settings[str(inspection.path)]
            settings.setdefault(finding.filename, config)
            found.setdefault(finding.filename, []).append(finding)
    reported: list[Finding] = []
    for name, findings in sorted(found.items()):
        inspection = files.get(name) or _imported(Path(name))
        reported += _in_file(inspection, _distinct(findings), settings[name])
    return reported


def _imported(path: Path) -> Inspection:
    """Return the comments of a file that nobody asked to lint, and that holds a finding."""
    suppressions = Suppressions()
    with contextlib.suppress(Unreadable):
        suppressions = Suppressions.parse(source_text(path), str(path))
    return Inspection(path, suppressions=suppressions, complete=False)


def _distinct(findings: Iterable[Finding]) -> list[Finding]:
    """Leave out what was found from several files, or in several ways through one.

    Whatever number each gives to the loss, and what was seen to be applied from one of them is
    only seen to be reached from another.
    """
    known: dict[object, Finding] = {}
    for one in findings:
        code = _REACHED if one.code in _REACHED else one.code
        key = (code, one.location, _NUMBER.sub("", one.loss or ""), one.model)
        other = known.get(key)
        if other is None or _weight(one) > _weight(other):
            known[key] = one
    return list(known.values())


def _weight(finding: Finding) -> tuple[int, int]:
    sure = list(Confidence).index(finding.confidence)
    return sure, -list(Severity).index(finding.severity)


_REACHED = frozenset({"GG101", "GG103"})
"""A loss reaches a model that it does not train; an optimizer then applies it."""


def _in_file(inspection: Inspection, findings: list[Finding], config: Config) -> list[Finding]:
    """Return what is to be reported of all that was found in one file, in the order of rows."""
    linted = {entry.code for entry in catalogue().values() if "lint" in entry.halves}
    codes = config.codes_for(inspection.path) & linted
    kept = inspection.suppressions.keep(findings)
    if inspection.complete:
        kept += inspection.suppressions.unused(findings, codes, "lint")
    return sorted(
        (
            finding
            for finding in kept
            if finding.code in codes and finding.confidence.reaches(config.min_confidence)
        ),
        key=lambda finding: (finding.location.row, finding.location.column, finding.code),
    )

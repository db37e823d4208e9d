"""Analyse one file: execute it abstractly, and judge what it did."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gradguard.config import Config
from gradguard.core.findings import Finding
from gradguard.core.merging import merged
from gradguard.lint.entries import explore
from gradguard.lint.judge import judge
from gradguard.lint.project import Project
from gradguard.lint.story import tell

__all__ = ["Analysis", "analyse"]


@dataclass(frozen=True, slots=True)
class Analysis:
    """What came of one file.

    Attributes:
        findings: What was found, in the order of rows; the unsure included.
        imported: The project's files that were looked into on the way.
    """

    findings: tuple[Finding, ...]
    imported: frozenset[Path]


def analyse(path: Path, project: Project, config: Config, deadline: float) -> Analysis:
    """Find isolation bugs in one file.

    Args:
        path: The file.
        project: Where its imports lead.
        config: What the project declares.
        deadline: When to give up, on the clock of ``time.thread_time``.

    Raises:
        Unreadable: If the file cannot be read or parsed.
        OutOfTime: If the deadline passes.
    """
    file = project.file(path)
    runs = explore(project, file, deadline)
    found: dict[tuple[str, str, int, str], Finding] = {}
    stories = [tell(run) for run in runs]
    trained = frozenset(name for story in stories for name in story.trained)
    for story in stories:
        story.elsewhere = trained
        for finding in judge(story, config.policy):
            key = (finding.code, finding.filename, finding.location.row, finding.message)
            known = found.get(key)
            if known is None or finding.confidence.reaches(known.confidence):
                found[key] = finding
    ordered = sorted(
        merged(found.values()),
        key=lambda one: (one.filename, one.location.row, one.location.column),
    )
    imported = frozenset(p for run in runs for p in run.files if p != file.path)
    return Analysis(tuple(ordered), imported)

"""Analyse one file: execute it abstractly, and judge what it did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gradguard.config import Config
from gradguard.core.findings import Finding
from gradguard.core.merging import merged
from gradguard.lint.entries import explore
from gradguard.lint.judge import judge
from gradguard.lint.project import Project
from gradguard.lint.story import Story, tell
from gradguard.lint.values import Flow, Site

__all__ = ["Analysis", "Reach", "analyse"]


@dataclass(frozen=True, slots=True)
class Reach:
    """What a loss, or a term of it, reaches at one of its backward passes.

    Attributes:
        loss: The loss.
        place: The file and the rows of the backward pass.
        parts: The parameters, by where they are kept, each with the model that they belong to.
    """

    loss: str
    place: tuple[str, int, int]
    parts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Analysis:
    """What came of one file.

    Attributes:
        findings: What was found, in the order of rows; the unsure included.
        imported: The project's files that were looked into on the way.
        reaches: What every backward pass reaches, in the order in which they ran.
        misfits: The calls that detach what may be no tensor.
    """

    findings: tuple[Finding, ...]
    imported: frozenset[Path]
    reaches: tuple[Reach, ...] = ()
    misfits: frozenset[Site] = frozenset()


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
    reaches = tuple(reach for story in stories for reach in _reaches(story))
    misfits = frozenset(
        site for run in runs for kind, site, _ in run.oddities if kind == "detached no tensor"
    )
    return Analysis(tuple(ordered), imported, reaches, misfits)


def _reaches(story: Story) -> Iterator[Reach]:
    for event in story.backwards:
        place = event.site.filename, event.site.row, event.site.end_row
        yield Reach(story.losses[id(event)], place, _parts(story, event.flow))
        for name, term in event.terms:
            yield Reach(name, place, _parts(story, term.flow))


def _parts(story: Story, flow: Flow) -> dict[str, str]:
    of_unit = story.of_unit
    return {".".join(unit.path): of_unit[unit].name for unit in flow if unit in of_unit}

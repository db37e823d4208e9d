"""What the two halves conclude of a training program, over the leaves that it names.

Both infer what a loss may train, one from what it watches and one from what it predicts.
"""

from __future__ import annotations

import ast
import linecache
import time
from collections.abc import Iterable

from torch import nn
from training_truth import PATH

from gradguard.core.findings import Confidence, Severity
from gradguard.core.policy import Policy
from gradguard.lint import expressions, names
from gradguard.lint.carry import units_of
from gradguard.lint.entries import explore
from gradguard.lint.judge import deduced, intent, judge
from gradguard.lint.project import Project
from gradguard.lint.run import Frame
from gradguard.lint.story import tell
from gradguard.lint.values import Unit
from gradguard.runtime.observe import Observer
from gradguard.runtime.observe.census import place_of_program
from gradguard.runtime.observe.declared import Declared
from gradguard.runtime.observe.story import _Teller

__all__ = ["Accusation", "accused_in_source", "accused_live"]

MISSES = frozenset({"GG203", "GG301", "GG302", "GG303"})
"""Codes of losses that miss what they are after; what they reach instead is no second finding."""

CODES = frozenset({"GG101", "GG103", "GG104", "GG204"})

Accusation = tuple[str, int, str]
"""A code, the row of the loss's backward pass, and a leaf."""


def accused_live(
    source: str, handles: Iterable[str]
) -> tuple[set[Accusation], set[tuple[int, str]], Exception | None]:
    """Run a program under observation.

    Returns:
        What is found; the leaves, by row, of which nothing is found because the gradient was zero
        throughout, or because what the loss misses explains what it reaches; and what ended the
        program early, if anything did.
    """
    # Losses are called what the source calls them.
    linecache.cache[str(PATH)] = (len(source), None, source.splitlines(keepends=True), str(PATH))
    try:
        return _accused(source, handles)
    finally:
        del linecache.cache[str(PATH)]


def _accused(
    source: str, handles: Iterable[str]
) -> tuple[set[Accusation], set[tuple[int, str]], Exception | None]:
    namespace: dict[str, object] = {"__name__": "program"}
    error: Exception | None = None
    observer = Observer(Declared(Policy({})))
    observer.begin()
    try:
        exec(compile(source, str(PATH), "exec"), namespace)  # noqa: S102
    except RuntimeError as raised:
        error = raised
    finally:
        observer.end()
    leaf_of: dict[int, str] = {}
    for handle in handles:
        value = eval(handle, namespace)  # noqa: S307
        tensors = value.parameters() if isinstance(value, nn.Module) else [value]
        leaf_of.update((id(tensor), handle) for tensor in tensors)
    teller = _Teller(observer)
    rows: dict[str, set[int]] = {}
    silent: set[tuple[int, str]] = set()
    for passage in teller.passages:
        row = place_of_program(passage.where).location.row
        rows.setdefault(teller.names[passage.number], set()).add(row)
        idle = teller.census.tensors(passage.arrives & ~passage.live)
        silent |= {(row, leaf_of[id(tensor)]) for tensor in idle if id(tensor) in leaf_of}
    leaves = {
        name: {leaf_of[id(t)] for t in teller.census.tensors(mask) if id(t) in leaf_of}
        for name, mask in teller.models.items()
    }
    findings = teller.story().findings
    for finding in findings:
        if finding.code in MISSES:
            silent |= {(row, leaf) for row in rows.get(finding.loss or "", ()) for leaf in handles}
    found = {
        (finding.code, row, leaf)
        for finding in findings
        if finding.code in CODES
        for row in rows.get(finding.loss or "", ())
        for leaf in leaves.get(finding.model or "", ())
    }
    return found, silent, error


def accused_in_source(source: str, handles: Iterable[str]) -> set[Accusation]:
    """Return what the linter's ledger concludes by default, but for what the checks explain."""
    project = Project()
    project.hold(PATH, source)
    file = project.file(PATH)
    run = explore(project, file, time.monotonic() + 20)[0]
    frame = Frame(file, names.global_scope(run, file))
    leaf_of: dict[Unit, str] = {}
    for handle in handles:
        value = expressions.evaluate(run, ast.parse(handle, mode="eval").body, frame)
        leaf_of.update(dict.fromkeys(units_of(value), handle))
    story = tell(run)
    told = list(judge(story))
    rows: dict[str, set[int]] = {}
    for event in story.backwards:
        rows.setdefault(story.losses[id(event)], set()).add(event.site.row)
    return {
        (finding.code, row, leaf_of[unit])
        for finding in deduced(story, intent(story))
        if finding.code in CODES
        and finding in told
        and finding.severity is not Severity.INFO
        and finding.confidence.reaches(Confidence.MEDIUM)
        for model in story.models
        if model.name == finding.model
        for unit in model.units
        if unit in leaf_of
        for row in rows.get(finding.loss or "", ())
    }

"""Findings as SARIF 2.1.0, the form in which code hosts and editors take them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import gradguard
from gradguard.core.codes import catalogue
from gradguard.core.findings import Confidence, Finding, Place, Severity
from gradguard.core.fixes import Fix
from gradguard.core.flow import FlowMatrix
from gradguard.report.paths import is_file, uri

__all__ = ["sarif"]

_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_ROOT = "SRCROOT"
_FINGERPRINT = "gradguard/v1"
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
_PRECISIONS = {
    Confidence.HIGH: "high",
    Confidence.MEDIUM: "medium",
    Confidence.LOW: "low",
}


def sarif(
    findings: Iterable[Finding],
    *,
    matrix: FlowMatrix | None = None,
    root: Path | None = None,
) -> dict[str, Any]:
    """Return findings as a SARIF log, plain data ready for JSON.

    Args:
        findings: What was found.
        matrix: What reaches what; goes into the run's properties.
        root: Where relative URIs begin; the current directory by default.
    """
    found = list(findings)
    codes = sorted({finding.code for finding in found})
    run: dict[str, Any] = {
        "tool": {
            "driver": {
                "name": "gradguard",
                "version": gradguard.__version__,
                "semanticVersion": gradguard.__version__,
                "rules": [_rule(code, found) for code in codes],
            }
        },
        "invocations": [{"executionSuccessful": True}],
        # Where the root lies is left out: it would tell about a machine, and nobody needs it.
        "originalUriBaseIds": {
            _ROOT: {"description": {"text": "The folder that gradguard was started in."}}
        },
        "columnKind": "unicodeCodePoints",
        "results": [
            _result(finding, codes.index(finding.code), mark, root)
            for finding, mark in zip(found, _fingerprints(found, root), strict=True)
        ],
    }
    if matrix is not None:
        run["properties"] = {"flow": matrix.to_dict()}
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(code: str, found: Sequence[Finding]) -> dict[str, Any]:
    entry = catalogue().get(code)
    if entry is None:
        name = next(finding.name for finding in found if finding.code == code)
        return {"id": code, "name": name}
    return {
        "id": code,
        "name": entry.name,
        "shortDescription": {"text": entry.summary},
        "fullDescription": {"text": entry.section("What it does")},
        "help": {"text": entry.doc, "markdown": entry.doc},
        "defaultConfiguration": {"level": _LEVELS[entry.severity]},
        "properties": {"tags": ["gradguard", "correctness"]},
    }


def _result(finding: Finding, index: int, mark: str, root: Path | None) -> dict[str, Any]:
    text = finding.message + (f"\nhelp: {finding.help}" if finding.help else "")
    properties = {
        "loss": finding.loss,
        "model": finding.model,
        "confidence": _PRECISIONS[finding.confidence],
    }
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "ruleIndex": index,
        "level": _LEVELS[finding.severity],
        "message": {"text": text},
        "locations": [_location(finding.place, root)] if is_file(finding.filename) else [],
        "partialFingerprints": {_FINGERPRINT: mark},
        "occurrenceCount": finding.count,
        "properties": {key: value for key, value in properties.items() if value is not None},
    }
    if finding.trace:
        steps = [
            {
                "location": _location(step.place, root, step.message),
                "executionOrder": number,
                "importance": "essential",
            }
            for number, step in enumerate(finding.trace, 1)
        ]
        result["codeFlows"] = [{"threadFlows": [{"locations": steps}]}]
    if finding.fix is not None and is_file(finding.filename):
        result["fixes"] = [_fix(finding.filename, finding.fix, root)]
    return result


def _fix(filename: str, fix: Fix, root: Path | None) -> dict[str, Any]:
    replacements = [
        {
            "deletedRegion": _region(Place(filename, edit.location, edit.end_location)),
            "insertedContent": {"text": edit.content},
        }
        for edit in fix.edits
    ]
    change = {"artifactLocation": _artifact(filename, root), "replacements": replacements}
    return {"description": {"text": fix.message}, "artifactChanges": [change]}


def _location(place: Place, root: Path | None, message: str | None = None) -> dict[str, Any]:
    location: dict[str, Any] = {}
    if is_file(place.filename):
        artifact = _artifact(place.filename, root)
        location["physicalLocation"] = {"artifactLocation": artifact, "region": _region(place)}
    if message is not None:
        location["message"] = {"text": message}
    return location


def _artifact(filename: str, root: Path | None) -> dict[str, str]:
    path, inside = uri(filename, root)
    return {"uri": path, "uriBaseId": _ROOT} if inside else {"uri": path}


def _region(place: Place) -> dict[str, Any]:
    begin, end = place.location, place.end_location
    region: dict[str, Any] = {"startLine": begin.row, "startColumn": begin.column}
    if end is not None and (end.row, end.column) >= (begin.row, begin.column):
        region |= {"endLine": end.row, "endColumn": end.column}
    return region


def _fingerprints(found: Sequence[Finding], root: Path | None) -> list[str]:
    """Name findings by what they say of which line's text, not by where that line stands.

    Equal ones in one file are told apart by their order in it, so that lines which come or go
    elsewhere change nothing.
    """
    seen: Counter[tuple[str, ...]] = Counter()
    marks: dict[int, str] = {}
    in_order = sorted(
        range(len(found)),
        key=lambda number: (found[number].location.row, found[number].location.column),
    )
    for number in in_order:
        finding = found[number]
        path = uri(finding.filename, root)[0] if is_file(finding.filename) else finding.filename
        line = " ".join(finding.place.source.split())
        key = (finding.code, path, finding.message, line)
        told = "\0".join((*key, str(seen[key])))
        marks[number] = hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        seen[key] += 1
    return [marks[number] for number in range(len(found))]

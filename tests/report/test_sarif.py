"""SARIF: valid, portable between machines, and steady from one commit to the next."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, strategies as st
from report_support import HOSTILE, SOURCE, applied, leak, matrix, place, program, unknown

from gradguard.core.codes import catalogue
from gradguard.core.findings import Confidence, Finding, Location, Place, Severity, TraceStep
from gradguard.core.flow import FlowMatrix
from gradguard.report import render

SCHEMA = json.loads(
    (Path(__file__).parent / "schema" / "sarif-2.1.0-rtm.4.json").read_text("utf-8")
)
VALIDATOR = jsonschema.Draft4Validator(
    SCHEMA, format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER
)


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write the program into the current directory and return its path."""
    monkeypatch.chdir(tmp_path)
    return program(tmp_path)


def run_of(
    findings: list[Finding], flow: FlowMatrix | None = None, root: Path | None = None
) -> dict[str, Any]:
    """Render findings and return the one run, after the schema had its say."""
    log = json.loads(render(findings, format="sarif", matrix=flow, root=root))
    VALIDATOR.validate(log)
    [run] = log["runs"]
    return dict(run)


def marks(findings: list[Finding]) -> list[str]:
    """Return the fingerprints of findings."""
    return [result["partialFingerprints"]["gradguard/v1"] for result in run_of(findings)["results"]]


def test_a_log_is_valid_and_says_what_the_finding_says(train: str) -> None:
    """Level, message with help, region, trace as a code flow, and the rule's text."""
    run = run_of([leak(train), applied(train), unknown(train)], matrix())
    assert [result["level"] for result in run["results"]] == ["warning", "error", "note"]
    result = run["results"][0]
    assert result["message"]["text"].endswith("does not train\nhelp: `critic(fake.detach())`")
    assert result["occurrenceCount"] == 20
    assert result["properties"] == {
        "loss": "critic_loss", "model": "generator", "confidence": "high",
    }  # fmt: skip
    assert result["locations"] == [
        {
            "physicalLocation": {
                "artifactLocation": {"uri": "train.py", "uriBaseId": "SRCROOT"},
                "region": {"startLine": 7, "startColumn": 22, "endLine": 7, "endColumn": 34},
            }
        }
    ]
    [flow] = result["codeFlows"]
    [thread] = flow["threadFlows"]
    assert [
        (
            step["location"]["physicalLocation"]["region"]["startLine"],
            step["location"]["message"]["text"],
        )
        for step in thread["locations"]
    ] == [(step.location.row, step.message) for step in leak(train).trace]
    assert run["properties"]["flow"] == matrix().to_dict()


def test_rules_come_from_the_catalogue(train: str) -> None:
    """Each rule that is used is there once, with its help, and results point to it."""
    run = run_of([applied(train), leak(train), leak(train)])
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["GG101", "GG103"]
    for rule in rules:
        entry = catalogue()[rule["id"]]
        assert rule["help"]["markdown"] == entry.doc
        assert rule["shortDescription"]["text"] == entry.summary
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]


@pytest.mark.parametrize("code", sorted(catalogue()))
def test_every_code_of_the_catalogue_makes_a_valid_rule(code: str, train: str) -> None:
    """No text in the catalogue breaks the schema."""
    entry = catalogue()[code]
    finding = replace(leak(train), code=code, name=entry.name, severity=entry.severity)
    [rule] = run_of([finding])["tool"]["driver"]["rules"]
    assert rule["fullDescription"]["text"]


def test_paths_are_relative_to_the_root_and_tell_nothing_about_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blanks, percent signs and colons are quoted; what is elsewhere is a whole file URI."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    inside = program(work / "a b", "100%:x#.py")
    outside = program(tmp_path / "other", "lib.py")
    run = run_of([leak(inside), leak(outside)])
    uris = [
        result["locations"][0]["physicalLocation"]["artifactLocation"] for result in run["results"]
    ]
    assert uris[0] == {"uri": "a%20b/100%25%3Ax%23.py", "uriBaseId": "SRCROOT"}
    assert uris[1] == {"uri": (tmp_path / "other" / "lib.py").as_uri()}
    assert str(tmp_path) not in render([leak(inside)], format="sarif")
    below = run_of([leak(inside)], root=work / "a b")["results"][0]["locations"][0]
    assert below["physicalLocation"]["artifactLocation"]["uri"] == "100%25%3Ax%23.py"


def test_a_relative_path_stays_below_the_root(train: str) -> None:
    """A path as a user gave it names the same file as the full one."""
    assert marks([leak("train.py")]) == marks([leak(train)])


def test_what_is_no_file_has_no_location() -> None:
    """A program from standard input is found out, but there is no file to point at."""
    [result] = run_of([leak("<stdin>")])["results"]
    assert result["locations"] == []
    steps = result["codeFlows"][0]["threadFlows"][0]["locations"]
    assert all("physicalLocation" not in step["location"] for step in steps)


def test_a_fingerprint_outlives_unrelated_edits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines above, deeper indentation, other findings and other files leave it as it was."""
    monkeypatch.chdir(tmp_path)
    [before] = marks([leak(program(tmp_path))])
    moved = "# A line.\n\n" + SOURCE.replace("fake = critic", "fake  =  critic")
    path = program(tmp_path, text=moved)
    finding = replace(leak(path), place=place(path, 9, 22, 34))
    other = leak(program(tmp_path, "another.py"))
    assert marks([other, applied(path), finding])[2] == before
    assert marks([finding, other])[0] == before


def test_a_fingerprint_tells_findings_apart(train: str) -> None:
    """By code, message, line and file, and the same thing twice by its order in the file."""
    first = leak(train)
    found = [
        first,
        replace(first, code="GG104"),
        replace(first, message="another"),
        replace(first, place=place(train, 8)),
        leak("other.py"),
        replace(first, place=place(train, 7, 30, 34)),
    ]
    assert len(set(marks(found))) == len(found)
    assert marks(found[::-1]) == marks(found)[::-1]
    assert marks([first]) == marks(found)[:1]


TEXTS = st.one_of(st.text(max_size=20), st.sampled_from(HOSTILE))
LOCATIONS = st.builds(Location, st.integers(1, 50), st.integers(1, 90))
PLACES = st.builds(
    Place,
    st.one_of(st.sampled_from(["train.py", "<stdin>", "a/b.py", "/x/y.py", "../z.py"]), TEXTS),
    LOCATIONS,
    st.none() | LOCATIONS,
)
FINDINGS = st.builds(
    Finding,
    st.sampled_from([*catalogue(), "GG999"]),
    TEXTS,
    st.sampled_from(Severity),
    TEXTS,
    PLACES,
    loss=st.none() | TEXTS,
    model=st.none() | TEXTS,
    trace=st.lists(st.builds(TraceStep, PLACES, TEXTS), max_size=3).map(tuple),
    help=st.none() | TEXTS,
    count=st.integers(1, 1000),
    confidence=st.sampled_from(Confidence),
)


@given(st.lists(FINDINGS, max_size=5))
def test_whatever_is_found_the_log_is_valid(findings: list[Finding]) -> None:
    """Names, paths and places as no program would have them keep to the schema."""
    results = run_of(findings, matrix())["results"]
    assert len(results) == len(findings)


@given(st.lists(FINDINGS, max_size=3))
def test_whatever_is_found_text_can_be_written(findings: list[Finding]) -> None:
    """Text has a headline for each finding and no character that moves a cursor."""
    text = render(findings)
    assert text.count("\n\n") == len(findings)
    assert all(line.isprintable() for line in text.splitlines())

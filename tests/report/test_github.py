"""GitHub annotations: one command a finding, which nothing in a name can break out of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from report_support import HOSTILE, applied, leak, place, program, unknown

from gradguard.core.findings import Location
from gradguard.report import render


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write the program into the current directory and return its path."""
    monkeypatch.chdir(tmp_path)
    return program(tmp_path)


def test_a_finding_is_a_command_with_its_trace(train: str) -> None:
    """Level, relative file, span and title; the message has the trace on further lines."""
    [warning, error, notice] = render(
        [leak(train), applied(train), unknown(train)], format="github"
    ).splitlines()
    head, _, message = warning.partition("::`")
    assert head == (
        "::warning file=train.py,line=7,endLine=7,col=22,endColumn=34,title=GG101 leaking-loss"
    )
    assert message.split("%0A")[:2] == [
        "critic_loss` reaches `generator`, which it does not train",
        "   6 | fake = generator(z)        `generator`'s output, carries gradient",
    ]
    assert message.endswith("%0A     = seen 20 times")
    assert error.startswith("::error file=train.py,line=11,")
    assert notice.startswith("::notice file=train.py,line=9,")


def test_an_expression_of_several_lines_has_no_columns(train: str) -> None:
    """GitHub shows columns only within one line."""
    finding = replace(
        leak(train), place=replace(place(train, 7, 22), end_location=Location(9, 4)), trace=()
    )
    assert "line=7,endLine=9,title=" in render([finding], format="github")


def test_what_is_no_file_has_no_file() -> None:
    """The finding is shown with the run, not beside a line that does not exist."""
    text = render([replace(leak("<stdin>"), trace=())], format="github")
    assert text.startswith("::warning title=GG101 leaking-loss::")


@pytest.mark.parametrize("name", [*HOSTILE, "a\r\n::error::gone", "100%0A", "x,line=1:y"])
def test_nothing_in_a_name_ends_the_command(name: str) -> None:
    """Line breaks are shown as text, and what separates properties is escaped."""
    finding = replace(leak(f"{name}.py"), message=name, name=name, help=name)
    text = render([finding], format="github")
    assert text.count("\n") == 1
    assert "\r" not in text
    properties = text.removeprefix("::warning ").partition("::")[0].split(",")
    assert [one.partition("=")[0] for one in properties] == [
        "file", "line", "endLine", "col", "endColumn", "title",
    ]  # fmt: skip


def test_without_findings_there_is_nothing_to_say() -> None:
    """No command, no line."""
    assert render([], format="github") == ""

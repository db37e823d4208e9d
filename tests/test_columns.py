"""Columns count characters from 1, as Ruff's do, in both halves and under every caret."""

from __future__ import annotations

import json
import linecache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st

import gradguard
from gradguard.cli import main
from gradguard.core.columns import column
from gradguard.core.findings import Finding, Location, Place, Severity
from gradguard.core.layout import cells, finding_lines, plain
from gradguard.report import render

WIDE = """\
import torch
from torch import nn

generator, critic = nn.Linear(3, 2), nn.Linear(2, 1)
generator_opt = torch.optim.SGD(generator.parameters(), 0.1)
critic_opt = torch.optim.SGD(critic.parameters(), 0.1)


def train(z):
    critic_opt.zero_grad()
    naïve = "é"; fake = generator(z)
    titre = {"日本語 é": critic(fake)}
    critic_loss = titre["日本語 é"].mean()
    str("日本語"); critic_loss.backward()
    critic_opt.step()

    generator_opt.zero_grad()
    generator_loss = -critic(generator(z)).mean()
    generator_loss.backward()
    generator_opt.step()
"""


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), st.data())
def test_a_byte_offset_becomes_the_index_of_its_character(line: str, data: st.DataObject) -> None:
    """Whatever the line holds; where the line is unknown, bytes are all there is."""
    index = data.draw(st.integers(0, len(line)))
    offset = len(line[:index].encode())
    assert column(line, offset) == index + 1
    assert column("", offset) == offset + 1


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write the program where the tools shall find it, and name its file."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "train.py"
    path.write_text(WIDE, encoding="utf-8")
    return str(path)


def live(source: str) -> Finding:
    """Return what a guard finds while the program runs."""
    program: dict[str, Any] = {}
    exec(compile(WIDE, source, "exec"), program)  # noqa: S102  The program is the one above.
    models = {name: program[name] for name in ("generator", "critic")}
    policy = {"critic_loss": "critic", "generator_loss": "generator"}
    with gradguard.Guard(models, policy, on_violation="record") as guard:
        program["train"](torch.ones(4, 3))
    return next(finding for finding in guard.findings if finding.code == "GG101")


def cut(place: dict[str, Any]) -> str:
    """Return what a place marks."""
    begin, end = place["location"], place["end_location"]
    assert begin["row"] == end["row"]
    return WIDE.splitlines()[begin["row"] - 1][begin["column"] - 1 : end["column"] - 1]


def test_the_running_program_and_the_linter_mark_the_same_characters(
    source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every place is the very expression, whatever stands before it on the line."""
    seen = live(source).to_dict()
    assert main(["lint", source, "--output-format", "json", "--no-cache"]) == 1
    (predicted,) = json.loads(capsys.readouterr().out)
    for finding, entry in ((seen, "fake"), (predicted, "critic(fake)")):
        assert cut(finding) == entry
        assert [cut(step) for step in finding["trace"]] == [
            "generator(z)",
            "critic(fake)",
            "critic_loss.backward()",
            "critic_opt.step()",
        ]


def test_carets_stand_below_what_they_mark(source: str) -> None:
    """On a line with wide characters each takes two columns of the terminal."""
    shown = render([live(source)]).splitlines()
    number = next(n for n, line in enumerate(shown) if "^" in line)
    above, carets = shown[number - 1], shown[number]
    before, _, _ = above.partition("fake)}")
    assert carets.index("^") == cells(before)
    assert carets.count("^") == len("fake")


def test_a_line_that_is_cut_to_fit_keeps_its_carets_in_place() -> None:
    """The window is counted in columns of the terminal, not in characters."""
    line = '    label = ["日本語日本語日本語日本語", critic(fake), "日本語日本語日本語日本語"]\n'
    begin = line.index("critic(fake)")
    name = "<wide>"
    linecache.cache[name] = (len(line), None, [line], name)
    place = Place(name, Location(1, begin + 1), Location(1, begin + 1 + len("critic(fake)")))
    finding = Finding("GG101", "leaking-loss", Severity.WARNING, "`a` reaches `b`", place)
    for width in range(36, 80):
        lines = plain(finding_lines(finding, width)).splitlines()
        assert all(cells(shown) <= width for shown in lines)
        above, carets = next((lines[n - 1], shown) for n, shown in enumerate(lines) if "^" in shown)
        before, found, _ = above.partition("critic(fake)")
        assert found
        assert carets.index("^") == cells(before)
        assert carets.count("^") == len(found)

"""Notebooks: findings and matrices show themselves, and names in them stay text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from report_support import HOSTILE, leak, matrix, program
from test_page import Reader

from gradguard.core.layout import visible


def test_a_finding_shows_itself_as_it_does_on_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text is the same, set in lines."""
    monkeypatch.chdir(tmp_path)
    finding = leak(program(tmp_path))
    read = Reader(finding._repr_html_())
    assert read.tags == ["pre"]
    assert "".join(read.texts) == str(finding)
    assert ("title", "warning: leaking-loss") in read.attributes


def test_a_matrix_says_each_pair_in_words() -> None:
    """A sign alone would say nothing to who hears it."""
    read = Reader(matrix()._repr_html_())
    assert read.text.count("✗ leaked") == 1
    assert read.text.count("! starved") == 1


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(name: str) -> None:
    """In messages, help and names alike."""
    finding = replace(leak(f"{name}.py"), name=name, message=name, help=name)
    read = Reader(finding._repr_html_())
    assert read.tags == ["pre"]
    assert visible(name) in "".join(read.texts)

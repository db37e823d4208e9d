"""What ``gradguard run`` finds in programs that declare nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_programs import AGENTS, FACTS, GAN, LEAK, MISDIRECTED
from run_support import judged, observed


def test_a_live_fake_is_found_with_nothing_declared(tmp_path: Path) -> None:
    """The loss, the model, the line and the way of the gradient are as the program writes them."""
    done = judged(tmp_path, LEAK)
    assert done.status == 0, "a warning is no error"
    [found] = done.findings
    assert (found["code"], found["loss"], found["model"]) == ("GG101", "d_loss", "G")
    assert found["location"]["row"] == 9
    assert [step["location"]["row"] for step in found["trace"]] == [7, 9, 10, 11]


def test_a_correct_pair_gets_no_finding_and_a_matrix(tmp_path: Path) -> None:
    """What is only passed through and cleared is shown in the matrix, not reported."""
    (tmp_path / "train.py").write_text(GAN)
    done = observed(tmp_path, "train.py")
    assert done.status == 0
    assert done.err == ""
    rows = [line.split() for line in done.out.splitlines()]
    assert ["d_loss", "·", "●"] in rows
    assert ["g_loss", "●", "○"] in rows
    assert "no findings" in done.out


def test_terms_have_rows_of_their_own(tmp_path: Path) -> None:
    """Terms are found in dictionaries and attributes, and no property is run to find them."""
    (tmp_path / "train.py").write_text(AGENTS)
    done = observed(tmp_path, "train.py")
    assert done.err == ""
    rows = [line.split() for line in done.out.splitlines()]
    assert ["self.actor", "self.critic"] in rows
    assert ["total", "●", "●"] in rows
    assert ["losses['policy']", "●", "●"] in rows
    assert ["losses['decay']", "●", "·"] in rows
    assert ["self.loss_q", "●", "●"] in rows


@pytest.mark.parametrize("fact", FACTS)
def test_facts_that_betray_a_mistake_need_no_declaration(tmp_path: Path, fact: str) -> None:
    """Each is reported once, at the line where it is to be mended."""
    code, program = FACTS[fact]
    row = next(n for n, line in enumerate(program.splitlines(), 1) if "# here" in line)
    [found] = judged(tmp_path, program).findings
    assert (found["code"], found["location"]["row"]) == (code, row), found["message"]


@pytest.mark.parametrize("way", MISDIRECTED)
def test_a_deposit_that_is_the_consequence_of_a_starved_loss_is_no_second_finding(
    tmp_path: Path, way: str
) -> None:
    """Each is told of once, as severe as what becomes of the gradient; a rule tells it first."""
    told, program, policy = MISDIRECTED[way]
    options = []
    if policy:
        (tmp_path / "policy.toml").write_text(f"[policy]\n{policy}\n")
        options = ["--policy", "policy.toml"]
    found = judged(tmp_path, program, *options).findings
    assert [(f["code"], f["severity"], f["loss"], f["model"]) for f in found] == told

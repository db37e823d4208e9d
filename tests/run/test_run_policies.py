"""Policies of ``gradguard run``: declared, looked up in the program, written and read back."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from run_programs import AGENTS, ENSEMBLE, GAN, LEAK
from run_support import judged, observed

from gradguard.core.policy import Policy


def test_losses_and_models_are_declared_as_the_program_writes_them(tmp_path: Path) -> None:
    """Items of dictionaries and lists, and attributes, are found in the frames of the backward."""
    (tmp_path / "policy.toml").write_text(
        "[policy]\n"
        "\"losses['policy']\" = { never = [\"self.nets['q']\"], must = ['agents[0].actor'] }\n"
        "'self.loss_q' = { never = ['self.actor'] }\n"
    )
    done = judged(tmp_path, AGENTS, "--policy", "policy.toml")
    assert done.status == 1
    accused = {(f["code"], f["loss"], f["model"]) for f in done.findings}
    assert accused == {
        ("GG103", "losses['policy']", "self.nets['q']"),
        ("GG103", "self.loss_q", "self.actor"),
    }


def test_the_policy_of_the_project_holds_without_an_option(tmp_path: Path) -> None:
    """What the linter reads from pyproject.toml, the live run reads too."""
    (tmp_path / "pyproject.toml").write_text(
        "[tool.gradguard.policy]\n'self.loss_q' = { never = ['self.actor'] }\n"
    )
    [found] = judged(tmp_path, AGENTS).findings
    assert (found["code"], found["loss"]) == ("GG103", "self.loss_q")


def test_a_name_that_is_never_seen_is_told_behind_the_findings(tmp_path: Path) -> None:
    """Exit status 2, and standard error says what there was instead."""
    (tmp_path / "policy.toml").write_text(
        "[policy]\nd_loss = 'D'\nq_loss = 'D'\ng_loss = { never = ['F'] }\n"
    )
    done = judged(tmp_path, LEAK, "--policy", "policy.toml")
    assert done.status == 2
    assert [found["code"] for found in done.findings] == ["GG101"]
    [line] = done.err.splitlines()
    assert line.startswith("error: the policy names `q_loss`, `F`")
    for name in ("d_loss", "g_loss", "G", "D"):
        assert f"`{name}`" in line.partition("losses and terms were")[2]


@pytest.mark.parametrize(("program", "codes"), [(GAN, []), (AGENTS, []), (LEAK, ["GG101"])])
def test_a_policy_that_is_written_judges_the_same_program_as_before(
    tmp_path: Path, program: str, codes: list[str]
) -> None:
    """The contract names everything as the program does, and finds what was found."""
    first = judged(tmp_path, program, "--write-policy", "policy.toml")
    again = judged(tmp_path, program, "--policy", "policy.toml")
    assert [found["code"] for found in first.findings] == codes
    assert [found["code"] for found in again.findings] == codes
    assert (again.err, again.status) == ("", 0)
    text = (tmp_path / "policy.toml").read_text()
    assert Policy.parse(tomllib.loads(text)["policy"]).to_toml() == text


def test_a_call_site_that_serves_several_losses_names_each_by_what_it_reaches(
    tmp_path: Path,
) -> None:
    """Neither a number nor the variable of a comprehension tells one model from the next."""
    found = judged(tmp_path, ENSEMBLE, "--write-policy", "policy.toml").findings
    rules = tomllib.loads((tmp_path / "policy.toml").read_text())["policy"]
    assert found == []
    assert rules == {
        "loss": {"only": ["head"]},
        "loss (nets[0])": {"only": ["nets[0]"]},
        "loss (nets[1])": {"only": ["nets[1]"]},
    }
    again = judged(tmp_path, ENSEMBLE, "--policy", "policy.toml")
    assert (again.findings, again.err, again.status) == ([], "", 0)


def test_a_written_policy_catches_what_breaks_later(tmp_path: Path) -> None:
    """It gates: the same program with a `detach` less fails against it."""
    judged(tmp_path, GAN, "--write-policy", "policy.toml")
    done = judged(tmp_path, LEAK, "--policy", "policy.toml", "--fail-on", "warning")
    assert done.status == 1
    assert [(f["loss"], f["model"]) for f in done.findings] == [("d_loss", "G")]


LIFETIMES = '''
import gc, weakref
import torch
torch.manual_seed(0)
net, head = torch.nn.Linear(8, 8), torch.nn.Linear(8, 1)
opt = torch.optim.SGD([*net.parameters(), *head.parameters()], 0.1)
gone = []


class Big:
    """What a local variable may hold."""


def forward(x):
    hidden, big = net(x), Big()
    gone.extend([weakref.ref(hidden), weakref.ref(big)])
    return head(hidden).square().mean(), big


def train(x):
    loss, big = forward(x)
    mine = locals()
    opt.zero_grad()
    loss.backward()
    assert mine["loss"] is loss and mine["big"] is big, "the program's own locals() were emptied"
    opt.step()


def plainly(x):
    kept, hidden = Big(), net(x)
    loss = head(hidden).square().mean()
    gone.extend([weakref.ref(kept), weakref.ref(hidden), weakref.ref(loss)])
    opt.zero_grad()
    loss.backward()
    del kept, hidden, loss
    assert all(one() is None for one in gone[-3:]), "reading the frame has kept a variable"
    opt.step()


for _ in range(3):
    train(torch.randn(4, 8))
    plainly(torch.randn(4, 8))
gc.collect()  # The program's own locals() hold themselves.
assert all(one() is None for one in gone), "something is kept"
print("nothing outlived its time")
'''


def test_looking_names_up_prolongs_no_life_and_leaves_the_programs_own_locals(
    tmp_path: Path,
) -> None:
    """Before Python 3.13 a frame keeps the snapshot of its variables that is read."""
    (tmp_path / "train.py").write_text(LIFETIMES)
    (tmp_path / "policy.toml").write_text("[policy]\nloss = ['net', 'head']\n")
    done = observed(tmp_path, "--policy", "policy.toml", "train.py")
    assert "nothing outlived its time" in done.out, done.err
    assert done.status == 0

"""What the linter accuses a program of, the live process does as well."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

sys.path.insert(0, str(Path(__file__).parent))

from training_findings import Accusation, accused_in_source, accused_live
from training_programs import Program, programs
from training_truth import deterministic

ASKED = os.environ.get("GRADGUARD_DIFFERENTIAL_EXAMPLES")
EXAMPLES = settings(
    max_examples=int(ASKED or 40),
    # A search for new disagreements is started by hand; a change is judged by the same programs.
    derandomize=ASKED is None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def unfounded(program: Program) -> set[Accusation]:
    """Return what only the linter finds, though the program ran to its end."""
    with deterministic():
        live, zero, error = accused_live(program.source, program.handles)
    if error is not None:
        return set()
    told = accused_in_source(program.source, program.handles) - live
    # A gradient that happens to be zero is proof of nothing, and is not reported live.
    return {one for one in told if one[1:] not in zero}


@EXAMPLES
@given(programs())
def test_no_accusation_is_without_ground(program: Program) -> None:
    """A leak, a spill or a stale gradient found in source is found live: same code, loss, model."""
    found = unfounded(program)
    assert not found, f"{sorted(found)}\n{program.source}"


HEAD = """\
import torch
from torch import nn

a, b = nn.Linear(4, 4), nn.Linear(4, 4)
"""

JOINT = """\
opt = torch.optim.SGD([*a.parameters(), *b.parameters()], lr=0.01)
for _ in range(2):
    opt.zero_grad()
    first = a(torch.randn(2, 4)).mean()
    first.backward()
    second = a(b(torch.randn(2, 4))).mean()
    second.backward()
    opt.step()
"""

PARTLY_CLEARED = """\
opt = torch.optim.SGD([*a.parameters(), *b.parameters()], lr=0.01)
for _ in range(2):
    loss = b(a(torch.randn(2, 4))).mean()
    a.zero_grad()
    loss.backward()
    opt.step()
"""


@pytest.mark.parametrize(
    ("body", "expected"),
    [(JOINT, set()), (PARTLY_CLEARED, {("GG204", 9, "b")})],
    ids=["joint", "partly-cleared"],
)
def test_the_two_halves_agree(body: str, expected: set[Accusation]) -> None:
    """Programs on which the halves once differed."""
    source = HEAD + body
    with deterministic():
        live, _, error = accused_live(source, ("a", "b"))
    assert error is None
    assert live == expected
    assert accused_in_source(source, ("a", "b")) == expected


def test_an_accusation_without_ground_would_be_seen() -> None:
    """Lint another program than the one that runs: the comparison must notice."""
    source = HEAD + PARTLY_CLEARED
    with deterministic():
        live, _, _ = accused_live(source.replace("a.zero_grad()", "opt.zero_grad()"), ("a", "b"))
    assert accused_in_source(source, ("a", "b")) - live

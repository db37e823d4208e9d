"""The linter predicts what a live process does: nothing it says may be the opposite."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

sys.path.insert(0, str(Path(__file__).parent))

from training_programs import Program, programs
from training_truth import deterministic, differences, observe, predict

ASKED = os.environ.get("GRADGUARD_DIFFERENTIAL_EXAMPLES")
EXAMPLES = settings(
    max_examples=int(ASKED or 60),
    # A search for new disagreements is started by hand; a change is judged by the same programs.
    derandomize=ASKED is None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@EXAMPLES
@given(programs())
def test_no_prediction_contradicts_what_a_training_program_does(program: Program) -> None:
    """Compare reach, what lies behind, what is held and what steps, event by event."""
    with deterministic():
        true, error = observe(program.source, program.handles)
    told = predict(program.source, program.handles)
    found = list(differences(true, told, whole=error is None))
    assert not found, "\n".join([*found, program.source])


GAN = """\
import torch
from torch import nn

critic, generator = nn.Linear(4, 1), nn.Linear(4, 4)
critic_opt = torch.optim.SGD(critic.parameters(), lr=0.01)
for _ in range(2):
    fake = generator(torch.randn(2, 4))
    loss = critic(fake.detach()).mean()
    critic_opt.zero_grad()
    loss.backward()
    critic_opt.step()
"""


@pytest.mark.parametrize(
    ("device", "instead", "complaint"),
    [
        (".detach()", "", "wrongly has ['generator']"),
        ("critic_opt.zero_grad()", "pass", "gradient lay in"),
        ("    critic_opt.step()", "    pass", "predicted backward at row 10"),
        ("critic.parameters()", "generator.parameters()", "misses ['critic']"),
    ],
)
def test_a_prediction_for_a_program_without_one_device_is_seen_to_be_wrong(
    device: str, instead: str, complaint: str
) -> None:
    """Predict for another program than the one that ran: the comparison must notice."""
    handles = ("critic", "generator")
    with deterministic():
        true, error = observe(GAN, handles)
    assert error is None
    assert not list(differences(true, predict(GAN, handles)))
    told = predict(GAN.replace(device, instead), handles)
    assert complaint in "\n".join(differences(true, told))

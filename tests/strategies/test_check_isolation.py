"""The search for inputs that break a policy: it finds them, shrinks them, and changes nothing."""

from __future__ import annotations

import copy
import doctest
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import Phase, assume, given, settings, strategies as st
from torch import nn

import gradguard
from gradguard import search, strategies

POLICY = {"critic_loss": "critic"}
Batch = dict[str, torch.Tensor]
BATCHES = strategies.batches(z=(3,), mask=strategies.masks)


class Nets:
    """A critic that is trained on what a generator makes; ``leaks`` says for which input it leaks.

    Args:
        leaks: Asked of each input whether the generator's output stays attached.
    """

    def __init__(self, leaks: Callable[[Batch], bool]) -> None:
        self.critic = nn.Sequential(nn.Linear(2, 32), nn.Dropout(0.5), nn.Linear(32, 1))
        self.generator = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        self.optimizer = torch.optim.Adam(self.critic.parameters())
        self.models = {"critic": self.critic, "generator": self.generator}
        self.leaks = leaks
        self.runs = 0

    def step(self, batch: Batch) -> None:
        """Train the critic once."""
        self.runs += 1
        self.generator.train(len(batch["z"]) > 1)
        self.optimizer.zero_grad()
        fake = self.generator(batch["z"])
        critic_loss = self.critic(fake if self.leaks(batch) else fake.detach()).mean()
        critic_loss.backward()
        self.optimizer.step()

    def state(self) -> Any:
        """Return all that a step may change."""
        models = [copy.deepcopy(model.state_dict()) for model in self.models.values()]
        grads = [
            None if p.grad is None else p.grad.clone()
            for model in self.models.values()
            for p in model.parameters()
        ]
        modes = [m.training for model in self.models.values() for m in model.modules()]
        optimizer = copy.deepcopy(self.optimizer.state_dict())
        return models, grads, modes, optimizer, torch.get_rng_state()


def same(one: Any, other: Any) -> bool:
    """Say whether two states hold the same values."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def notes(error: BaseException) -> str:
    """Return what an error was given on its way."""
    return "\n".join(getattr(error, "__notes__", []))


def test_a_leak_that_needs_an_empty_mask_is_found_and_shrunk() -> None:
    """The finding names loss and model; the note shows one row of zeros and the empty mask."""
    nets = Nets(lambda batch: not batch["mask"].any())
    with pytest.raises(gradguard.IsolationError) as caught:
        gradguard.check_isolation(nets.step, nets.models, POLICY, given=BATCHES)
    (finding,) = caught.value.findings
    assert (finding.code, finding.loss, finding.model) == ("GG101", "critic_loss", "generator")
    assert notes(caught.value) == textwrap.dedent("""\
        the simplest input that shows it:
            step(
                {
                    'z': tensor([[0., 0., 0.]]),
                    'mask': tensor([False]),
                },
            )""")


def test_a_leak_that_needs_several_rows_shrinks_to_as_few_as_show_it() -> None:
    """Three rows are needed, so three are shown."""
    nets = Nets(lambda batch: len(batch["z"]) >= 3)
    with pytest.raises(gradguard.IsolationError) as caught:
        gradguard.check_isolation(nets.step, nets.models, POLICY, given=BATCHES)
    assert "'mask': tensor([False, False, False])," in notes(caught.value)


def test_a_step_that_keeps_to_its_policy_on_all_inputs_passes() -> None:
    """As many inputs are tried as the settings say, and nothing is raised."""
    nets = Nets(lambda _: False)
    gradguard.check_isolation(
        nets.step, nets.models, POLICY, given=BATCHES, settings=settings(max_examples=30)
    )
    assert nets.runs == 30


@pytest.mark.parametrize("leaks", [True, False])
def test_everything_is_afterwards_as_it_was(leaks: bool) -> None:
    """Parameters, buffers, gradients, modes, random numbers and the optimizer's state."""
    nets = Nets(lambda batch: leaks and len(batch["z"]) > 1)
    for _ in range(2):
        nets.step({"z": torch.randn(4, 3)} if not leaks else {"z": torch.randn(1, 3)})
    before = nets.state()
    try:
        gradguard.check_isolation(nets.step, nets.models, POLICY, given=BATCHES)
    except gradguard.IsolationError:
        assert leaks
    assert same(before, nets.state())


def test_each_run_begins_from_the_same_state() -> None:
    """Neither weights nor random numbers wander from one input to the next."""
    nets, seen = Nets(lambda _: False), set()

    def step(batch: Batch) -> None:
        seen.add((nets.critic[0].weight.sum().item(), torch.rand(()).item()))
        nets.step(batch)

    gradguard.check_isolation(
        step, nets.models, POLICY, given=BATCHES, settings=settings(max_examples=10)
    )
    assert len(seen) == 1


def test_what_a_step_writes_into_its_input_is_not_what_is_shown() -> None:
    """The input is shown as it was drawn."""
    nets = Nets(lambda _: True)

    def step(batch: Batch) -> None:
        batch["z"].add_(7)
        nets.step(batch)

    with pytest.raises(gradguard.IsolationError) as caught:
        gradguard.check_isolation(step, nets.models, POLICY, given=BATCHES)
    assert "tensor([[0., 0., 0.]])" in notes(caught.value)


def test_inputs_are_given_as_one_as_several_or_by_keyword() -> None:
    """A strategy, a sequence of them, or a mapping; without any the step is run as it is."""
    nets, calls = Nets(lambda _: True), []

    def step(*args: Any, **kwargs: Any) -> None:
        calls.append((args, kwargs))
        nets.step({"z": torch.ones(1, 3)})

    one = st.just(1)
    for given_, shown in (
        (one, "step(1)"),
        ((one, one), "step(1, 1)"),
        ({"a": one, "b": one}, "step(a=1, b=1)"),
    ):
        with pytest.raises(gradguard.IsolationError) as caught:
            gradguard.check_isolation(step, nets.models, POLICY, given=given_)
        assert notes(caught.value).endswith(shown)
    assert calls[0] == ((1,), {})
    assert calls[-1] == ((), {"a": 1, "b": 1})
    with pytest.raises(gradguard.IsolationError):
        gradguard.check_isolation(step, nets.models, POLICY)
    assert calls[-1] == ((), {})


def test_a_starved_model_is_found_as_well() -> None:
    """The policy is held in both directions, without any optimizer step too."""
    nets = Nets(lambda batch: bool(batch["mask"].all()))
    del nets.optimizer
    nets.optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1)
    with pytest.raises(gradguard.IsolationError) as caught:
        gradguard.check_isolation(
            nets.step, nets.models, {"critic_loss": ["critic", "generator"]}, given=BATCHES
        )
    assert [finding.code for finding in caught.value.findings] == ["GG301"]


def test_an_error_of_the_step_itself_comes_through_with_its_input() -> None:
    """It keeps its type, message and traceback; a note shows the simplest input that makes it."""
    nets = Nets(lambda _: False)

    def step(batch: Batch) -> None:
        if len(batch["z"]) == 2:
            raise ZeroDivisionError("two rows")
        nets.step(batch)

    with pytest.raises(ZeroDivisionError, match="two rows") as caught:
        gradguard.check_isolation(step, nets.models, POLICY, given=BATCHES)
    assert notes(caught.value).startswith("gradguard: the step itself fails with\n")
    assert "'mask': tensor([False, False])," in notes(caught.value)


@settings(max_examples=20, database=None)
@given(st.integers(1, 3))
def test_a_search_inside_a_test_of_hypothesis_is_one_search(rows: int) -> None:
    """No health check complains, no deadline is missed: one input for each of the test's own."""
    nets = Nets(lambda _: False)
    gradguard.check_isolation(
        nets.step, nets.models, POLICY, given=strategies.batches(z=(3,), rows=(rows, rows))
    )
    assert nets.runs == 1


def test_inside_a_test_of_hypothesis_that_test_shrinks_the_input() -> None:
    """The finding comes out of the test, with the simplest input of both."""
    nets = Nets(lambda batch: len(batch["z"]) > 1)

    @settings(max_examples=200, database=None, phases=[Phase.generate, Phase.shrink])
    @given(st.integers(0, 3))
    def test(rows: int) -> None:
        gradguard.check_isolation(
            nets.step, nets.models, POLICY, given=strategies.batches(z=(3,), rows=(rows, 4))
        )

    with pytest.raises(gradguard.IsolationError) as caught:
        test()
    assert "step({'z': tensor([[0., 0., 0.],\n" in notes(caught.value).replace("    ", "") or (
        "tensor([[0., 0., 0.],\n" in notes(caught.value)
    )


@settings(max_examples=20, database=None)
@given(BATCHES)
def test_what_the_test_itself_draws_may_be_used_instead(batch: Batch) -> None:
    """Without ``given`` the step is run once on whatever the test has drawn."""
    nets = Nets(lambda _: False)
    gradguard.check_isolation(lambda: nets.step(batch), nets.models, POLICY)


def test_assumptions_in_a_step_are_kept_to() -> None:
    """``assume`` inside the step sorts inputs out, as in any test of Hypothesis."""
    nets = Nets(lambda batch: len(batch["z"]) == 1)

    def step(batch: Batch) -> None:
        assume(len(batch["z"]) > 1)
        nets.step(batch)

    gradguard.check_isolation(step, nets.models, POLICY, given=BATCHES)


@pytest.mark.parametrize(
    ("given_", "told"),
    [
        (3, "given is a int, not a strategy"),
        ([st.none(), 3], r"given\[1\] is a int"),
        ({"batch": (3,)}, r"given\['batch'\] is a tuple"),
        ("batch", "given is a str"),
    ],
)
def test_what_is_no_strategy_is_refused(given_: Any, told: str) -> None:
    """With the place at which it stands, before any step is run."""
    nets = Nets(lambda _: True)
    with pytest.raises(TypeError, match=told):
        gradguard.check_isolation(nets.step, nets.models, POLICY, given=given_)
    assert nets.runs == 0


def test_a_wrong_policy_is_refused_before_any_step_is_run() -> None:
    """In the words of a guard."""
    nets = Nets(lambda _: True)
    with pytest.raises(gradguard.PolicyError, match="did you mean `critic`"):
        gradguard.check_isolation(nets.step, nets.models, {"critic_loss": "critc"}, given=BATCHES)
    assert nets.runs == 0


def test_the_examples_in_docstrings_run() -> None:
    """What a docstring shows is what happens."""
    assert doctest.testmod(search).failed == 0


@pytest.mark.parametrize(
    "use",
    [
        "gradguard.strategies.batches(x=(3,))",
        "gradguard.strategies.masks((3,))",
        "gradguard.strategies.training()",
        "gradguard.strategies.orders('a')",
        "gradguard.check_isolation(print, {'m': torch.nn.Linear(1, 1)}, {'loss': 'm'}, given=1)",
    ],
)
def test_without_hypothesis_the_error_says_what_to_install(use: str) -> None:
    """The names exist all the same, and a single run of a step needs no Hypothesis."""
    script = f"""
import sys
sys.modules["hypothesis"] = None
import gradguard, torch
model = torch.nn.Linear(1, 1)
def step():
    loss = model(torch.ones(1, 1)).sum()
    loss.backward()
gradguard.check_isolation(step, {{"model": model}}, {{"loss": "model"}})
try:
    {use}
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("needs Hypothesis: pip install 'gradguard[hypothesis]'\n")

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference_support import in_words, small
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from gradguard.reference import DivergedError, Metrics, Trainer

VARIANTS: list[dict[str, Any]] = [
    {},
    {"constraint": "clip"},
    {"amp": "bfloat16"},
    {"reuse_fake": False},
    {"guard": False},
]

#: Operations for which the host waits until the device has a value.
READS = ("_local_scalar_dense", "item", "nonzero", "equal", "is_nonzero", "unique", "masked_select")


class SynchronisationError(AssertionError):
    """Raised at an operation that reads a value."""


class NoReads(TorchDispatchMode):
    """Fails at every operation that makes the host wait, and counts the others."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        to_host = name == "_to_copy" and str(kwargs.get("device", "")) == "cpu"
        if name in READS or to_host:
            raise SynchronisationError(f"{func} reads a value")
        self.operations += 1
        return func(*args, **kwargs)


@pytest.mark.parametrize("variant", VARIANTS, ids=in_words)
def test_no_step_waits_for_the_device(variant: dict[str, Any]) -> None:
    """Property: between two reads of the losses, no operation reads a value or copies to the host."""
    trainer = Trainer(small(**variant))
    with NoReads() as watched:
        trainer.train()
    assert watched.operations > 100
    with pytest.raises(SynchronisationError), NoReads():
        trainer.metrics._pending[0][0].item()


@pytest.mark.parametrize("variant", VARIANTS, ids=in_words)
def test_a_step_runs_without_any_values(variant: dict[str, Any]) -> None:
    """Property: with tensors that have no values, where every read raises, steps still run."""
    with FakeTensorMode():
        trainer = Trainer(small(**variant))
        trainer.train(until=3)
        with pytest.raises(RuntimeError):
            trainer.metrics.read()


def test_all_pending_metrics_are_read_in_one_copy() -> None:
    """Property: a hundred steps of two losses cost one stack, not two hundred reads."""
    metrics = Metrics("a", "b")
    for step in range(100):
        metrics.record(torch.tensor(float(step)), torch.tensor(-1.0))
    with NoReads() as watched:
        assert metrics.read() == {"a": 99.0, "b": -1.0}
    assert watched.operations <= 3
    assert metrics.history()["a"] == [float(step) for step in range(100)]


def test_metrics_hold_no_graph() -> None:
    """Property: recorded losses do not keep activations alive."""
    metrics = Metrics("loss")
    metrics.record(torch.ones(3, requires_grad=True).sum())
    assert not metrics._pending[0][0].requires_grad


def test_reading_twice_changes_nothing_and_nothing_recorded_reads_as_nothing() -> None:
    """Property: a read without news repeats the last values; before the first step there are none."""
    metrics = Metrics("loss")
    assert metrics.read() == {}
    metrics.record(torch.tensor(2.0))
    assert metrics.read() == metrics.read() == {"loss": 2.0}
    assert metrics.history() == {"loss": [2.0]}


def test_a_loss_that_is_no_number_stops_the_run_at_the_next_read() -> None:
    """Property: the error names the loss and the step at which it happened, and what to try."""
    metrics = Metrics("critic_loss", "generator_loss")
    metrics.record(torch.tensor(1.0), torch.tensor(1.0))
    metrics.read()
    metrics.record(torch.tensor(1.0), torch.tensor(float("nan")))
    metrics.record(torch.tensor(1.0), torch.tensor(float("nan")))
    with pytest.raises(DivergedError, match="generator_loss is nan at step 2; lower the learning"):
        metrics.read()

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from reference_support import in_words, small
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from gradguard.reference import DivergedError, Metrics, Pair, Settings, Trainer, mlp_pair

VARIANTS: list[dict[str, Any]] = [
    {},
    {"constraint": "clip"},
    {"amp": "bfloat16"},
    {"reuse_fake": False},
    {"guard": False},
]

#: Operations for which the host waits until the device has a value.
WAITING = {"_local_scalar_dense", "equal", "is_nonzero", "masked_select", "nonzero", "_unique2"}

#: Methods that copy to the host, which on the CPU leave no operation to see.
COPYING = {Tensor.cpu, Tensor.numpy, Tensor.tolist, Tensor.item, Tensor.__repr__}


class SynchronisationError(AssertionError):
    """Raised at an operation that reads a value."""


class _Operations(TorchDispatchMode):
    """Counts operations, and fails at those that make the host wait."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        if func.overloadpacket.__name__ in WAITING:
            raise SynchronisationError(f"{func} reads a value")
        self.operations += 1
        return func(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    """Fails at methods that copy to the host."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        blocking = func is Tensor.to and "cpu" in map(str, args) and not kwargs.get("non_blocking")
        if func in COPYING or blocking:
            raise SynchronisationError(f"{func} copies to the host")
        return func(*args, **kwargs)


@contextmanager
def no_reads() -> Iterator[_Operations]:
    """Fail at whatever makes the host wait for the device."""
    with _Methods(), _Operations() as operations:
        yield operations


class Settled(nn.Sequential):
    """Stays where it is: parameters without values cannot be moved."""

    def to(self, *_: Any, **__: Any) -> Settled:
        """Do nothing."""
        return self


def settled_pair(settings: Settings) -> Pair:
    """Build the default pair of modules that do not move."""
    critic, generator = mlp_pair(settings)
    return Pair(Settled(critic), Settled(generator))


@pytest.mark.parametrize("variant", VARIANTS, ids=in_words)
def test_no_step_waits_for_the_device(variant: dict[str, Any]) -> None:
    """Property: between two reads of the losses, nothing reads a value or copies to the host."""
    trainer = Trainer(small(**variant))
    with no_reads() as watched:
        trainer.train()
    assert watched.operations > 100


@pytest.mark.parametrize(
    "read",
    [float, bool, Tensor.item, Tensor.tolist, Tensor.cpu, Tensor.numpy, Tensor.nonzero, repr],
    ids=lambda read: read.__name__,
)
def test_a_wait_would_be_seen(read: Callable[[Tensor], object]) -> None:
    """Property: the test above can fail: any way to read a tensor is noticed."""
    value = torch.ones(())
    with pytest.raises(SynchronisationError), no_reads():
        read(value)


@pytest.mark.parametrize("variant", VARIANTS, ids=in_words)
def test_a_step_runs_without_any_values(variant: dict[str, Any]) -> None:
    """Property: with tensors that have no values, where every read raises, steps still run."""
    with FakeTensorMode():
        trainer = Trainer(small(**variant), make_pair=settled_pair)
        trainer.train(until=3)
        with pytest.raises(RuntimeError):
            trainer.metrics.read()


def test_all_pending_metrics_are_read_in_one_copy() -> None:
    """Property: a hundred steps of two losses cost one stack, not two hundred reads."""
    metrics = Metrics("a", "b")
    for step in range(100):
        metrics.record(torch.tensor(float(step)), torch.tensor(-1.0))
    with _Operations() as watched:
        assert metrics.read() == {"a": 99.0, "b": -1.0}
    assert watched.operations <= 3
    assert metrics.history()["a"] == [float(step) for step in range(100)]


def test_metrics_hold_no_graph() -> None:
    """Property: recorded losses do not keep activations alive."""
    metrics = Metrics("loss")
    metrics.record(torch.ones(3, requires_grad=True).sum())
    assert not metrics._pending[0][0].requires_grad


def test_reading_twice_changes_nothing_and_nothing_recorded_reads_as_nothing() -> None:
    """Property: a read without news repeats the last values, and begins with none."""
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

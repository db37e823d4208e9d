"""In the steady state a guard adds no tensor operation, reads no value and changes no bit."""

from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from steady_programs import PROGRAMS, Program, Watching, mlp
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import gradguard

Operation = tuple[str, tuple[Any, ...]]

SYNCHRONISING = (
    "aten::_local_scalar_dense",
    "aten::item",
    "aten::is_nonzero",
    "aten::equal",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::_to_copy",
    "aten::copy_",
)
"""Operations that wait for the device, or may: copies do when they leave it."""

every_program = pytest.mark.parametrize("make", PROGRAMS.values(), ids=PROGRAMS)


class Recorder(TorchDispatchMode):
    """Writes down every operation that reaches the dispatcher, in backward passes too."""

    def __init__(self) -> None:
        """Begin with nothing written down."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Operation] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Write an operation down with the shapes of what it works on."""
        del types
        flat = torch.utils._pytree.tree_leaves((args, kwargs or {}))
        shapes = tuple(tuple(part.shape) for part in flat if isinstance(part, Tensor))
        self.operations.append((func.name(), shapes))
        return func(*args, **(kwargs or {}))


def built(make: Callable[[], Program], seed: int = 0) -> Program:
    """Build a program, its parameters and its later random numbers from a seed."""
    torch.manual_seed(seed)
    return make()


def guarding(program: Program, **options: Any) -> gradguard.Guard:
    """Guard a program by its own policy; anything found would be raised."""
    return gradguard.Guard(program.models, program.policy, **options)


def recorded(program: Program, guard: Watching, steps: int) -> list[list[Operation]]:
    """Run a warm-up step, then record the operations of each further step."""
    found = []
    with guard if guard is not None else nullcontext():
        program.step(guard)
        for _ in range(steps):
            with Recorder() as recorder:
                program.step(guard)
            found.append(recorder.operations)
    return found


@every_program
def test_a_guarded_step_runs_the_operations_of_an_unguarded_one(
    make: Callable[[], Program],
) -> None:
    """From the second step on: the same operations, on the same shapes, in the same order."""
    plain = recorded(built(make), None, steps=6)
    program = built(make)
    guarded = recorded(program, guarding(program, strict=True), steps=6)
    assert all(len(operations) > 20 for operations in plain)
    assert guarded == plain


@every_program
def test_a_guarded_step_never_waits_for_the_device(make: Callable[[], Program]) -> None:
    """Not even the first step under a guard runs an operation that synchronises."""

    def waits(program: Program, guard: Watching) -> Counter[str]:
        with guard if guard is not None else nullcontext(), Recorder() as recorder:
            program.step(guard)
            program.step(guard)
        return Counter(name for name, _ in recorder.operations if name in SYNCHRONISING)

    program = built(make)
    assert waits(program, guarding(program)) == waits(built(make), None)


@every_program
def test_a_guarded_step_reads_no_value(make: Callable[[], Program]) -> None:
    """It runs on fake tensors, which have no values: whoever reads one gets an exception."""
    with FakeTensorMode():
        program = built(make)
        guard = guarding(program, strict=True)
        with guard:
            for _ in range(4):
                program.step(guard)
        with pytest.raises(DataDependentOutputException):
            next(program.parameters()).sum().item()
    assert guard.findings == []


@every_program
@pytest.mark.parametrize("every", [1, 3])
def test_guarded_training_is_bit_identical(make: Callable[[], Program], every: int) -> None:
    """Parameters, gradients, moments, buffers and random numbers are those of plain training."""
    plain, program = built(make), built(make)
    torch.manual_seed(1)
    for _ in range(8):
        plain.step(None)
    expected = plain.state()
    torch.manual_seed(1)
    guard = guarding(program, every=every)
    with guard:
        for _ in range(8):
            program.step(guard)
    assert_same_bits(program.state(), expected)


def assert_same_bits(found: list[Tensor], expected: list[Tensor]) -> None:
    """Compare two states bit by bit, so that NaN equals itself and zero its own sign only."""
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == theirs.dtype
        assert mine.shape == theirs.shape
        assert (
            mine.contiguous()
            .reshape(-1)
            .view(torch.uint8)
            .equal(theirs.contiguous().reshape(-1).view(torch.uint8))
        )


class Drawn(Program):
    """Two models whose losses, layers, optimizers and habits are drawn at random.

    Leaks and left-over gradients are among them: recording them must not change training either.
    """

    def __init__(
        self,
        layers: tuple[type[nn.Module], ...],
        optimizers: tuple[Callable[[Any], torch.optim.Optimizer], ...],
        *,
        cuts: tuple[bool, bool],
        clears: tuple[int, int],
        backwards: int,
        penalty: bool,
    ) -> None:
        """Build what was drawn.

        Args:
            layers: An extra layer of each model.
            optimizers: Makes the optimizer of each.
            cuts: Whether each loss is cut off from the other model.
            clears: When each optimizer clears: 0 never, 1 to None, 2 to zero, 3 after its step.
            backwards: How many backwards make a step.
            penalty: Whether the first loss has a gradient penalty.
        """
        self.first = mlp(3, 3, *_layer(layers[0]))
        self.second = mlp(3, 3, *_layer(layers[1]))
        self.models = {"first": self.first, "second": self.second}
        self.policy = {"first_loss": "first", "second_loss": "second"}
        pairs = zip(optimizers, (self.first, self.second), strict=True)
        self.optimizers = [make(list(model.parameters())) for make, model in pairs]
        self.cuts, self.clears = cuts, clears
        self.backwards, self.penalty = backwards, penalty

    def step(self, guard: Watching) -> None:
        """Train each model on a loss of its own."""
        self._clear(0)
        for _ in range(self.backwards):
            made = self.second(torch.randn(5, 3))
            first_loss = self.first(made.detach() if self.cuts[0] else made).square().mean()
            if self.penalty:
                point = torch.randn(5, 3, requires_grad=True)
                [slope] = torch.autograd.grad(self.first(point).sum(), point, create_graph=True)
                first_loss = first_loss + slope.square().mean()
            first_loss.backward()
        self.optimizers[0].step()
        self._clear(0, late=True)
        self._clear(1)
        made = self.first(torch.randn(5, 3))
        second_loss = self.second(made.detach() if self.cuts[1] else made).mean()
        with guard.loss("second_loss") if guard is not None else nullcontext():
            second_loss.backward()
        self.optimizers[1].step()
        self._clear(1, late=True)

    def _clear(self, which: int, *, late: bool = False) -> None:
        habit = self.clears[which]
        if (habit == 3) if late else (habit in (1, 2)):
            self.optimizers[which].zero_grad(set_to_none=habit != 2)


def _layer(layer: type[nn.Module]) -> tuple[nn.Module, ...]:
    return (layer(6),) if layer is nn.BatchNorm1d else (layer(),)


LAYERS = st.sampled_from((nn.Identity, nn.Dropout, nn.BatchNorm1d))
OPTIMIZERS = st.sampled_from(
    (
        lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
        lambda parameters: torch.optim.AdamW(parameters, lr=0.01),
        lambda parameters: torch.optim.RMSprop(parameters, lr=0.01, weight_decay=0.1),
        lambda parameters: torch.optim.Adam(parameters, lr=0.01, fused=True),
    )
)
DRAWN = st.fixed_dictionaries(
    {
        "layers": st.tuples(LAYERS, LAYERS),
        "optimizers": st.tuples(OPTIMIZERS, OPTIMIZERS),
        "cuts": st.tuples(st.booleans(), st.booleans()),
        "clears": st.tuples(st.integers(0, 3), st.integers(0, 3)),
        "backwards": st.integers(1, 2),
        "penalty": st.booleans(),
    }
)


@settings(deadline=None, max_examples=60)
@given(drawn=DRAWN, every=st.integers(1, 3))
def test_recording_changes_no_bit_of_any_training(drawn: dict[str, Any], every: int) -> None:
    """Leaking, accumulating, stale and clean programs alike train as they do without a guard."""
    plain, program = (built(lambda: Drawn(**drawn)) for _ in range(2))
    torch.manual_seed(2)
    for _ in range(4):
        plain.step(None)
    expected = plain.state()
    torch.manual_seed(2)
    guard = guarding(program, on_violation="record", every=every)
    with guard:
        for _ in range(4):
            program.step(guard)
    assert_same_bits(program.state(), expected)


def test_the_recorder_sees_what_is_added_in_a_backward_pass() -> None:
    """An operation that a tensor hook runs inside backward is written down."""

    def operations(*, hooked: bool) -> list[str]:
        weight = nn.Parameter(torch.ones(3))
        if hooked:
            weight.register_hook(lambda gradient: gradient.sigmoid())
        with Recorder() as recorder:
            weight.sum().backward()
        return [name for name, _ in recorder.operations]

    added = Counter(operations(hooked=True)) - Counter(operations(hooked=False))
    assert added["aten::sigmoid"] == 1

"""The strategies: what they draw keeps to what was asked, reaches the edges, and shrinks."""

from __future__ import annotations

import doctest
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, find, given, settings, strategies as st

from gradguard import strategies

SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
DRAW = settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)


def simplest(strategy: Any, holds: Callable[[Any], bool]) -> Any:
    """Find the simplest thing drawn for which a condition holds."""
    return find(strategy, holds, settings=settings(max_examples=2000, database=None))


@DRAW
@given(st.data(), SHAPES, strategies.dtypes())
def test_tensors_have_the_shape_and_dtype_that_were_asked_for(
    data: st.DataObject, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    """For any shape, empty ones too, and any floating-point dtype; all values are finite."""
    drawn = data.draw(strategies.tensors(shape, dtype=dtype))
    assert (tuple(drawn.shape), drawn.dtype) == (shape, dtype)
    assert bool(drawn.isfinite().all())
    assert not drawn.requires_grad


@DRAW
@given(st.data(), SHAPES)
def test_masks_and_integers_have_the_shape_that_was_asked_for(
    data: st.DataObject, shape: tuple[int, ...]
) -> None:
    """Masks are boolean; integers lie within their bounds."""
    mask = data.draw(strategies.masks(shape))
    labels = data.draw(strategies.integers(-2, 5, shape))
    assert (tuple(mask.shape), mask.dtype) == (shape, torch.bool)
    assert (tuple(labels.shape), labels.dtype) == (shape, torch.int64)
    assert bool(((labels >= -2) & (labels <= 5)).all())


@DRAW
@given(
    strategies.batches(
        {"time step": ()}, x=(3, 2), mask=strategies.masks, label=strategies.integers(0, 9),
        rows=(2, 5),
    )
)  # fmt: skip
def test_the_fields_of_a_batch_have_their_rows_in_common(batch: dict[str, torch.Tensor]) -> None:
    """One number of rows, within the range; fields come in the order in which they are named."""
    assert list(batch) == ["time step", "x", "mask", "label"]
    (rows,) = {len(tensor) for tensor in batch.values()}
    assert 2 <= rows <= 5
    assert tuple(batch["x"].shape) == (rows, 3, 2)


@pytest.mark.parametrize(
    "holds",
    [
        lambda mask: not mask.any(),
        lambda mask: mask.all(),
        lambda mask: mask.any() and not mask.all(),
    ],
    ids=["none", "all", "mixed"],
)
def test_masks_are_all_true_all_false_and_mixed(holds: Callable[[torch.Tensor], bool]) -> None:
    """Each kind is found, though each of 64 elements would hardly be the same by chance."""
    simplest(strategies.masks((64,)), holds)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_reach_the_edges_of_their_dtype(dtype: torch.dtype) -> None:
    """The largest value, a zero that is negative, and different magnitudes are found."""
    drawn = strategies.tensors((8,), dtype=dtype)
    limits = torch.finfo(dtype)
    simplest(drawn, lambda tensor: bool((tensor == limits.max).any()))
    simplest(drawn, lambda tensor: bool(((tensor == 0) & tensor.signbit()).any()))
    simplest(drawn, lambda tensor: bool((tensor.abs() > 1e4).any()))
    simplest(drawn, lambda tensor: bool(((tensor.abs() < 1e-2) & (tensor != 0)).any()))


def test_what_is_not_finite_is_drawn_only_if_it_is_allowed() -> None:
    """NaN and infinities are found when asked for."""
    drawn = strategies.tensors((4,), allow_nan=True, allow_infinity=True)
    simplest(drawn, lambda tensor: bool(tensor.isnan().any()))
    simplest(drawn, lambda tensor: math.inf in tensor.tolist())


def test_what_is_drawn_shrinks_to_the_plainest_input() -> None:
    """One row of zeros, an empty mask, train mode, the order as it was given."""
    batch = simplest(strategies.batches(x=(2,), mask=strategies.masks), lambda _: True)
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "x": [[0.0, 0.0]],
        "mask": [False],
    }
    assert simplest(strategies.training(), lambda _: True) is True
    assert simplest(strategies.orders("b", "a", "c"), lambda _: True) == ["b", "a", "c"]


def test_modes_and_orders_are_all_found() -> None:
    """Eval mode, and each order of three losses."""
    assert simplest(strategies.training(), lambda training: not training) is False
    for order in (["a", "c", "b"], ["c", "b", "a"]):
        simplest(strategies.orders("a", "b", "c"), lambda drawn, order=order: drawn == order)


def test_shapes_may_be_drawn_themselves() -> None:
    """A size may be a strategy, and so may the whole shape."""
    drawn = strategies.tensors((st.integers(3, 5), 2))
    assert tuple(simplest(drawn, lambda tensor: len(tensor) == 5).shape) == (5, 2)
    drawn = strategies.masks(st.sampled_from([(1,), (2, 2)]))
    assert tuple(simplest(drawn, lambda mask: mask.ndim == 2).shape) == (2, 2)


WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (strategies.batches, ValueError, "a batch has fields"),
    (lambda: strategies.batches(x=3), TypeError, "field `x` is 3; it is the shape of one row"),
    (lambda: strategies.batches(x=(-1,)), TypeError, "field `x` is"),
    (lambda: strategies.batches(x=(), rows=(3, 1)), ValueError, "the least and the greatest"),
    (lambda: strategies.batches(x=(), rows=4), ValueError, "rows=4"),
    (lambda: strategies.tensors(3), TypeError, "3 is no shape"),
    (lambda: strategies.tensors((-3,)), ValueError, "-3 in the shape"),
    (lambda: strategies.tensors((3,), dtype=torch.int64), ValueError, "floating-point dtype"),
    (lambda: strategies.tensors((3,), magnitudes=()), ValueError, "magnitudes"),
    (lambda: strategies.tensors((3,), magnitudes=(-1.0,)), ValueError, "magnitudes"),
    (lambda: strategies.masks("ab"), TypeError, "'ab' is no shape"),
    (lambda: strategies.integers(3, 2), ValueError, "the least value is greater"),
    (strategies.orders, ValueError, "name the losses"),
]


@pytest.mark.parametrize(
    ("use", "kind", "told"), WRONG, ids=[str(number) for number in range(len(WRONG))]
)
def test_wrong_arguments_are_refused_at_once(
    use: Callable[[], Any], kind: type[Exception], told: str
) -> None:
    """Not at the first draw, where Hypothesis would wrap the error in its own words."""
    with pytest.raises(kind, match=told):
        use()


@pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
def test_the_examples_in_docstrings_run() -> None:
    """What a docstring shows is what happens."""
    assert doctest.testmod(strategies).failed == 0

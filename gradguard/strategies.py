"""Hypothesis strategies for training steps: batches, masks, modes and orders of losses.

They draw what leaks hide behind: a batch of one row, an empty mask, a dtype, a magnitude, an edge
value, train or eval mode. All of them shrink towards the plainest input. The module itself loads
neither Hypothesis nor torch; its functions do.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy
    from torch import Tensor, dtype as Dtype, finfo as Limits

__all__ = ["batches", "dtypes", "integers", "masks", "orders", "tensors", "training"]

Shape: TypeAlias = "Sequence[int | SearchStrategy[int]]"
Field: TypeAlias = "Sequence[int] | Callable[[tuple[int, ...]], SearchStrategy[Tensor]]"

_SEEDS = 2**16
_PLANTED = 4
"""How many edge values are planted in one tensor at most."""


def hypothesis_for(name: str) -> Any:
    """Load Hypothesis for the public name ``name``.

    Raises:
        ImportError: If it is not installed; the message names the extra.
    """
    try:
        return importlib.import_module("hypothesis")
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "hypothesis":
            raise
        raise ImportError(
            f"gradguard.{name} needs Hypothesis: pip install 'gradguard[hypothesis]'",
            name="hypothesis",
        ) from error


def _loaded(name: str) -> tuple[Any, Any]:
    """Load Hypothesis' strategies and torch for the strategy ``name``."""
    name = f"strategies.{name}"
    hypothesis_for(name)
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "torch":
            raise
        raise ImportError(
            f"gradguard.{name} needs PyTorch: pip install 'gradguard[torch]'", name="torch"
        ) from error
    return importlib.import_module("hypothesis.strategies"), torch


def batches(
    fields: dict[str, Field] | None = None,
    /,
    *,
    rows: tuple[int, int] = (1, 8),
    dtype: Dtype | SearchStrategy[Dtype] | None = None,
    **named: Field,
) -> SearchStrategy[dict[str, Tensor]]:
    """Draw batches: dictionaries of tensors that have their number of rows in common.

    Args:
        fields: What each field holds, for names that are no identifiers or names of options. The
            shape of one row, such as ``(3, 32, 32)`` or ``()``, gives numbers; a function that
            turns a shape into a strategy, such as :func:`masks`, gives what it draws.
        rows: The least and the greatest number of rows.
        dtype: The dtype of the fields that hold numbers, or a strategy for it; ``float32`` by
            default.
        **named: The same as keywords.

    Raises:
        ValueError: If there is no field, or ``rows`` is no range of whole numbers from 0.
        TypeError: If a field is neither a shape nor a function.
        ImportError: If Hypothesis or torch is missing.

    Example:
        >>> from gradguard import strategies
        >>> batch = strategies.batches(x=(3,), mask=strategies.masks, rows=(4, 4)).example()
        >>> tuple(batch["x"].shape), tuple(batch["mask"].shape)
        ((4, 3), (4,))
    """
    st, torch = _loaded("batches")
    wanted: dict[str, Field] = {**(fields or {}), **named}
    if not wanted:
        raise ValueError("a batch has fields, such as batches(x=(3,), mask=strategies.masks)")
    low, high = _range("rows", rows)
    types = _types(st, torch, dtype)
    makers = {name: _maker(name, field, types) for name, field in wanted.items()}

    @st.composite  # type: ignore[untyped-decorator]
    def batches_of(draw: DrawFn) -> dict[str, Tensor]:
        count = draw(st.integers(low, high))
        return {name: draw(make(count)) for name, make in makers.items()}

    found: SearchStrategy[dict[str, Tensor]] = batches_of()
    return found


def _maker(
    name: str, field: Any, types: SearchStrategy[Dtype]
) -> Callable[[int], SearchStrategy[Tensor]]:
    if callable(field):
        return functools.cache(lambda count: field((count,)))
    if isinstance(field, Sequence) and all(type(size) is int and size >= 0 for size in field):
        return functools.cache(lambda count: tensors((count, *field), dtype=types))
    raise TypeError(
        f"field `{name}` is {field!r}; it is the shape of one row, such as (3,), or a function "
        "from a shape to a strategy, such as strategies.masks"
    )


def tensors(
    shape: Shape | SearchStrategy[Sequence[int]],
    *,
    dtype: Dtype | SearchStrategy[Dtype] | None = None,
    magnitudes: Sequence[float] = (1.0, 1e-6, 1e6),
    allow_nan: bool = False,
    allow_infinity: bool = False,
) -> SearchStrategy[Tensor]:
    """Draw tensors of numbers: all the same, normally distributed, or with edge values planted.

    Edge values are zeros of both signs, one, the smallest and the largest that the dtype holds.

    Args:
        shape: A shape whose sizes are numbers or strategies, or a strategy for shapes.
        dtype: A floating-point dtype or a strategy for one; ``float32`` by default.
        magnitudes: Standard deviations of the normal distributions.
        allow_nan: Draw NaN as an edge value.
        allow_infinity: Draw infinities as edge values.

    Raises:
        ValueError: If a size or a magnitude is out of range, or the dtype is no floating-point one.
        TypeError: If ``shape`` is no shape.
        ImportError: If Hypothesis or torch is missing.

    Example:
        >>> from gradguard import strategies
        >>> tuple(strategies.tensors((2, 3)).example().shape)
        (2, 3)
    """
    st, torch = _loaded("tensors")
    shapes = _shapes(st, shape)
    types = _types(st, torch, dtype)
    scales = list(magnitudes)
    if not scales or not all(math.isfinite(scale) and scale > 0 for scale in scales):
        raise ValueError(f"magnitudes={magnitudes!r}; they are positive numbers, at least one")

    @st.composite  # type: ignore[untyped-decorator]
    def tensors_of(draw: DrawFn) -> Tensor:
        size, kind = tuple(draw(shapes)), draw(types)
        edges = st.sampled_from(_edges(torch.finfo(kind), allow_nan, allow_infinity))
        made: Tensor = torch.empty(size, dtype=kind)
        if not draw(st.booleans()):
            return made.fill_(draw(edges))
        generator = torch.Generator().manual_seed(draw(st.integers(0, _SEEDS)))
        made = torch.randn(size, generator=generator, dtype=torch.float64) * draw(
            st.sampled_from(scales)
        )
        made = made.clamp(torch.finfo(kind).min, torch.finfo(kind).max).to(kind)
        for place in draw(_places(st, made.numel())):
            made.view(-1)[place] = draw(edges)
        return made

    found: SearchStrategy[Tensor] = tensors_of()
    return found


def _places(st: Any, count: int) -> Any:
    if not count:
        return st.just([])
    return st.lists(st.integers(0, count - 1), max_size=min(count, _PLANTED), unique=True)


def _edges(limits: Limits, allow_nan: bool, allow_infinity: bool) -> list[float]:
    edges = [0.0, 1.0, -1.0, -0.0, limits.eps, limits.tiny, limits.max, limits.min]
    if allow_infinity:
        edges += [math.inf, -math.inf]
    return [*edges, math.nan] if allow_nan else edges


def masks(shape: Shape | SearchStrategy[Sequence[int]]) -> SearchStrategy[Tensor]:
    """Draw boolean tensors: all false, all true, and mixed ones.

    Args:
        shape: A shape whose sizes are numbers or strategies, or a strategy for shapes.

    Raises:
        ValueError: If a size is out of range.
        TypeError: If ``shape`` is no shape.
        ImportError: If Hypothesis or torch is missing.

    Example:
        >>> from gradguard import strategies
        >>> strategies.masks((4,)).example().dtype
        torch.bool
    """
    st, torch = _loaded("masks")
    shapes = _shapes(st, shape)

    @st.composite  # type: ignore[untyped-decorator]
    def masks_of(draw: DrawFn) -> Tensor:
        size = tuple(draw(shapes))
        kind = draw(st.sampled_from(("none", "all", "mixed")))
        made: Tensor = torch.full(size, kind == "all")
        if kind != "mixed":
            return made
        generator = torch.Generator().manual_seed(draw(st.integers(0, _SEEDS)))
        share: float = draw(st.sampled_from((0.5, 0.1, 0.9)))
        return made.copy_(torch.rand(size, generator=generator) < share)

    found: SearchStrategy[Tensor] = masks_of()
    return found


def integers(
    low: int, high: int, shape: Shape | SearchStrategy[Sequence[int]] | None = None
) -> Any:
    """Draw tensors of whole numbers, such as labels, actions or tokens.

    Args:
        low: The least value.
        high: The greatest value, itself included.
        shape: As for :func:`masks`. Without it a function from shapes to strategies is returned,
            as a field of :func:`batches` wants it.

    Raises:
        ValueError: If ``low`` is greater than ``high``, or a size is out of range.
        TypeError: If ``shape`` is no shape.
        ImportError: If Hypothesis or torch is missing.

    Example:
        >>> from gradguard import strategies
        >>> batch = strategies.batches(x=(3,), label=strategies.integers(0, 9)).example()
        >>> bool((batch["label"] <= 9).all())
        True
    """
    st, torch = _loaded("integers")
    if low > high:
        raise ValueError(f"integers({low}, {high}): the least value is greater than the greatest")
    if shape is None:
        return lambda given: integers(low, high, given)
    shapes = _shapes(st, shape)

    @st.composite  # type: ignore[untyped-decorator]
    def integers_of(draw: DrawFn) -> Tensor:
        size = tuple(draw(shapes))
        made: Tensor = torch.empty(size, dtype=torch.int64)
        if not draw(st.booleans()):
            return made.fill_(draw(st.integers(low, high)))
        generator = torch.Generator().manual_seed(draw(st.integers(0, _SEEDS)))
        return made.random_(low, high + 1, generator=generator)

    return integers_of()


def dtypes() -> SearchStrategy[Dtype]:
    """Draw a floating-point dtype: single, double, bfloat and half precision.

    Raises:
        ImportError: If Hypothesis or torch is missing.

    Example:
        >>> from gradguard import strategies
        >>> strategies.dtypes().example().is_floating_point
        True
    """
    st, torch = _loaded("dtypes")
    found: SearchStrategy[Dtype] = st.sampled_from(
        (torch.float32, torch.float64, torch.bfloat16, torch.float16)
    )
    return found


def training() -> SearchStrategy[bool]:
    """Draw what ``model.train(...)`` is given: true for train mode, false for eval mode.

    Raises:
        ImportError: If Hypothesis is missing.

    Example:
        >>> from gradguard import strategies
        >>> strategies.training().example() in (True, False)
        True
    """
    found: SearchStrategy[bool] = hypothesis_for("strategies.training").strategies.sampled_from(
        (True, False)
    )
    return found


def orders(*losses: str) -> SearchStrategy[list[str]]:
    """Draw an order of losses; the one that is given is the plainest.

    Args:
        *losses: What is to be put in order: names, or functions that run one loss each.

    Raises:
        ValueError: If there is none.
        ImportError: If Hypothesis is missing.

    Example:
        >>> from gradguard import strategies
        >>> sorted(strategies.orders("critic_loss", "actor_loss").example())
        ['actor_loss', 'critic_loss']
    """
    st = hypothesis_for("strategies.orders").strategies
    if not losses:
        raise ValueError('name the losses, such as orders("critic_loss", "actor_loss")')
    found: SearchStrategy[list[str]] = st.permutations(losses)
    return found


def _range(name: str, given: tuple[int, int]) -> tuple[int, int]:
    try:
        low, high = given
    except (TypeError, ValueError):
        low = high = -1
    if type(low) is not int or type(high) is not int or not 0 <= low <= high:
        raise ValueError(f"{name}={given!r}; it is the least and the greatest, such as (1, 8)")
    return low, high


def _shapes(st: Any, shape: Any) -> Any:
    if isinstance(shape, st.SearchStrategy):
        return shape
    if not isinstance(shape, Sequence) or isinstance(shape, str):
        raise TypeError(f"{shape!r} is no shape; write it as a tuple, such as (8, 3)")
    for size in shape:
        if not isinstance(size, st.SearchStrategy) and (type(size) is not int or size < 0):
            raise ValueError(f"{size!r} in the shape {shape!r} is no size: a whole number from 0")
    return st.tuples(
        *(size if isinstance(size, st.SearchStrategy) else st.just(size) for size in shape)
    )


def _types(st: Any, torch: Any, dtype: Any) -> Any:
    if isinstance(dtype, st.SearchStrategy):
        return dtype
    dtype = torch.float32 if dtype is None else dtype
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype={dtype!r}; it is a floating-point dtype, such as torch.float32")
    return st.just(dtype)

"""Facts that betray mistakes with nothing declared: frozen by a typo, moved at zero gradient."""

from __future__ import annotations

import difflib
import itertools
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gradguard.runtime.monitor import Pass
from gradguard.runtime.observe.census import Branch, Census
from gradguard.runtime.observe.passages import Passage
from gradguard.runtime.sites import Site

__all__ = ["Copies", "Oddities", "Typo"]

_MEANT = "requires_grad"
_REAL = frozenset({"requires_grad", "requires_grad_", "grad", "grad_fn", "retain_grad"})
_LOOKS = 12


@dataclass(frozen=True, slots=True)
class Typo:
    """An attribute that was meant to freeze and does nothing.

    Attributes:
        attribute: Its name.
        mask: The parameters that it should have frozen.
    """

    attribute: str
    mask: int


@dataclass(slots=True)
class Copies:
    """Two modules of one structure in one optimizer, one of which may be written from the other."""

    one: Branch
    other: Branch
    optimizer: int
    before: tuple[list[Tensor], list[Tensor]] | None = None
    looks: int = 0
    proved: list[int] = field(default_factory=list)


class Oddities:
    """Looks for such facts.

    Attributes:
        typos: Attributes that freeze nothing.
        fed_by_hand: Parameters whose gradients the program writes itself.
        moved: For each optimizer and place of a step, the parameters it moved at zero gradient.
        stale: Where a backward failed because a step had changed what it needed.
        severed: The passages that end in fresh leaves.
        copied: The targets found inside an optimizer, each with what it is written from.
    """

    def __init__(self, census: Census) -> None:
        """Begin with nothing found."""
        self._census = census
        self.typos: dict[str, Typo] = {}
        self.fed_by_hand = 0
        self.moved: dict[tuple[int, int], int] = {}
        self.stale: list[tuple[Site, str]] = []
        self.severed: list[Passage] = []
        self.copied: dict[int, tuple[Branch, Branch, int]] = {}
        self.coasting: dict[int, tuple[int, list[tuple[Tensor, Tensor]]]] = {}
        self._twins: dict[int, list[Copies]] = {}
        self._version = -1

    @property
    def wants_after(self) -> bool:
        """True if steps are to be told of when they have run."""
        return any(self._twins.values())

    def look_at_leaves(self, run: Pass, passage: Passage) -> None:
        """Take note of a loss whose graph ends at once."""
        outputs = [one for one in run.outputs if isinstance(one, Tensor)]
        if passage.stray and outputs and all(one.is_leaf for one in outputs):
            self.severed.append(passage)

    def look_at_attributes(self, mask: int) -> None:
        """Look for attributes that resemble ``requires_grad`` on parameters and modules."""
        for parameter in self._census.tensors(mask):
            number = self._census.number(parameter)
            for key, value in getattr(parameter, "__dict__", {}).items():
                if (
                    value is False
                    and parameter.requires_grad
                    and _resembles(key)
                    and number is not None
                ):
                    self._typo(key, 1 << number)
        for branch in self._census.branches():
            module = branch.module() if branch.module is not None else None
            if module is None or not branch.mask & mask:
                continue
            for key, value in module.__dict__.items():
                if value is False and (key == _MEANT or _resembles(key)):
                    if all(p.requires_grad for p in module.parameters()):
                        self._typo(key, branch.mask)

    def _typo(self, key: str, mask: int) -> None:
        known = self.typos.get(key)
        self.typos[key] = Typo(key, mask | (known.mask if known is not None else 0))

    def failed(self, run: Pass, error: BaseException) -> None:
        """Take note of a backward that a step in between made impossible."""
        if isinstance(error, RuntimeError) and "modified by an inplace operation" in str(error):
            if any(held.steps for held in self._census.optimizers):
                self.stale.append((run.site, str(error)))

    def coast(self, optimizer: int, where: int, parameters: list[Tensor]) -> None:
        """Remember values that a step may move although their gradient is zero."""
        self.coasting[optimizer] = where, [(p, p.detach().clone()) for p in parameters]

    def stepping(self, optimizer: int) -> None:
        """Compare twins with what they were after the optimizer's last step."""
        if self._version != self._census.version:
            self._version = self._census.version
            self._find_twins()
        for copies in self._twins.get(optimizer, ()):
            if copies.before is not None:
                one, other = _values(copies.one), _values(copies.other)
                old_one, old_other = copies.before
                copies.before = None
                if _follows(old_one, one, old_other, other):
                    self.copied[copies.one.mask] = copies.one, copies.other, optimizer
                elif _follows(old_other, other, old_one, one):
                    self.copied[copies.other.mask] = copies.other, copies.one, optimizer

    def stepped(self, optimizer: int) -> None:
        """See what a step has moved, and what twins are now."""
        where, values = self.coasting.pop(optimizer, (-1, []))
        for parameter, before in values:
            number = self._census.number(parameter)
            if number is not None and not torch.equal(parameter.detach(), before):
                key = optimizer, where
                self.moved[key] = self.moved.get(key, 0) | 1 << number
        for copies in self._twins.get(optimizer, ()):
            if copies.looks < _LOOKS and copies.one.mask not in self.copied:
                copies.looks += 1
                one, other = _values(copies.one), _values(copies.other)
                copies.before = [v.clone() for v in one], [v.clone() for v in other]
        if all(copies.looks >= _LOOKS for copies in self._twins.get(optimizer, ())):
            self._twins.pop(optimizer, None)

    def _find_twins(self) -> None:
        done = {(id(c.one), id(c.other)) for every in self._twins.values() for c in every}
        by_shape: dict[tuple[object, ...], list[Branch]] = {}
        for branch in self._census.branches():
            if branch.shape and not branch.bare and len(branch.shape) > 1:
                by_shape.setdefault(branch.shape, []).append(branch)
        for alike in by_shape.values():
            for one, other in itertools.pairwise(alike):
                if one.mask & other.mask or (id(one), id(other)) in done:
                    continue
                for number, held in enumerate(self._census.optimizers):
                    if held.now & one.mask == one.mask and held.now & other.mask == other.mask:
                        self._twins.setdefault(number, []).append(Copies(one, other, number))


def _resembles(key: str) -> bool:
    return (
        key not in _REAL
        and not key.startswith("_")
        and bool(difflib.get_close_matches(key.lower(), [_MEANT], cutoff=0.85))
    )


def _values(branch: Branch) -> list[Tensor]:
    module = branch.module() if branch.module is not None else None
    return [p.detach() for p in list(module.parameters())[:2]] if module is not None else []


def _follows(
    old: list[Tensor], new: list[Tensor], old_other: list[Tensor], other: list[Tensor]
) -> bool:
    """Say whether values have moved straight towards those of the other, which stood still."""
    if not (old and len(old) == len(new) == len(old_other) == len(other)):
        return False
    moved = False
    for before, now, there_before, there in zip(old, new, old_other, other, strict=True):
        if before.shape != now.shape or there_before.shape != there.shape:
            return False
        if not torch.equal(there_before, there):
            return False
        way, gap = (now - before).flatten().double(), (there - before).flatten().double()
        if not bool(way.any()):
            continue
        share = float((way @ gap) / (gap @ gap)) if bool(gap.any()) else 0.0
        if not 0 < share <= 1.001 or not torch.allclose(way, share * gap, rtol=1e-2, atol=1e-6):
            return False
        moved = True
    return moved

"""The parameters, modules and optimizers of a program, taken down as they turn up.

Parameters are numbered and sets of them are integers, one bit each. What is taken down is plain
data, so that it outlives the objects: nothing of the program is kept alive.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from gradguard.core.findings import Place
from gradguard.runtime.calls import Track
from gradguard.runtime.models import unwrapped
from gradguard.runtime.observe.objects import found_in, frames, reading, spelled
from gradguard.runtime.sites import Site

__all__ = ["Branch", "Census", "Held", "bits"]


def bits(mask: int) -> Iterator[int]:
    """Yield the numbers whose bits are set, ascending.

    Example:
        >>> list(bits(0b1010))
        [1, 3]
    """
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


@dataclass(slots=True)
class Branch:
    """A module as it was when it was taken down, or a parameter that stands alone.

    Attributes:
        mask: Its parameters, those of its parts included.
        own: Its parameters without those of its parts.
        parts: Its parts that hold parameters, each with the key by which it holds it.
        names: What the program was seen to call it, the earliest first.
        kind: The name of its class.
        shape: Names and shapes of its parameters, by which copies are known.
        module: The module, while it lives.
        track: Its calls.
        bare: True for a parameter.
        whole: True if its parts are library modules, of which nobody asks by name.
    """

    mask: int
    own: int
    parts: list[tuple[str, Branch]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    kind: str = ""
    shape: tuple[tuple[str, tuple[int, ...]], ...] = ()
    module: weakref.ref[nn.Module] | None = None
    track: Track = field(default_factory=Track)
    bare: bool = False
    holder: Callable[[], Any] | None = None

    def inside(self) -> Iterator[Branch]:
        """Yield it and everything in it, the outermost first."""
        yield self
        for _, part in self.parts:
            yield from part.inside()


@dataclass(slots=True)
class Held:
    """An optimizer, and what it was seen to hold.

    Attributes:
        ref: The optimizer, while it lives.
        mask: All parameters that it was ever seen to hold.
        now: Those that it holds.
        made: Where it was constructed, if that was seen.
        name: What the program calls it.
        steps: How often it stepped.
        groups: The identities of its parameter groups, which wrappers share.
        known: How many parameters were known when it had been constructed.
        frozen: Those of them that did not require gradient then.
    """

    ref: weakref.ref[Optimizer]
    mask: int = 0
    now: int = 0
    made: Site | None = None
    name: str = ""
    steps: int = 0
    signature: tuple[int, ...] = ()
    groups: frozenset[int] = frozenset()
    kind: str = ""
    known: int | None = None
    frozen: int = 0


class Census:
    """Everything that a program trains or might train."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.parameters: list[weakref.ref[Tensor]] = []
        self.loose: list[str | None] = []
        self.optimizers: list[Held] = []
        self.roots: list[Branch] = []
        self.version = 0
        self._numbers: dict[int, int] = {}
        self._branches: dict[int, Branch] = {}
        self._held: dict[int, int] = {}
        self._searches, self._due = 0, 0
        self._bare: dict[int, Branch] = {}

    def number(self, tensor: Tensor) -> int | None:
        """Return the number of a parameter; ``None`` if it has none."""
        number = self._numbers.get(id(tensor))
        if number is None or self.parameters[number]() is not tensor:
            return None
        return number

    def take(self, tensor: Tensor) -> int:
        """Return the number of a parameter, giving it one if it has none."""
        number = self.number(tensor)
        if number is None:
            number = self._numbers[id(tensor)] = len(self.parameters)
            self.parameters.append(weakref.ref(tensor))
            self.version += 1
        return number

    def tensors(self, mask: int) -> list[Tensor]:
        """Return the parameters of a set that are still alive."""
        found = (self.parameters[number]() for number in bits(mask))
        return [tensor for tensor in found if tensor is not None]

    def mask_of(self, tensors: Iterable[Tensor]) -> int:
        """Return the set of those parameters that are known."""
        mask = 0
        for tensor in tensors:
            number = self.number(tensor)
            if number is not None:
                mask |= 1 << number
        return mask

    # Modules

    def branch(self, module: nn.Module) -> Branch | None:
        """Return what is known of a module."""
        known = self._branches.get(id(module))
        if known is None or known.module is None or known.module() is not module:
            return None
        return known

    def enter(self, module: nn.Module) -> Branch | None:
        """Take a module down, with all its parts; ``None`` if it holds no parameter.

        Known parts stay as they are, unless their parameters have changed.
        """
        module = unwrapped(module)
        before = self.branch(module)
        branch = self._enter(module, set())
        if branch is not None and branch is not before:
            self.roots.append(branch)
            self.version += 1
        return branch

    def _enter(self, module: nn.Module, above: set[int]) -> Branch | None:
        if id(module) in above:
            return None
        own = 0
        for parameter in module._parameters.values():
            if parameter is not None and _is_ready(parameter):
                own |= 1 << self.take(parameter)
        parts: list[tuple[str, Branch]] = []
        for key, inner in module._modules.items():
            part = self._enter(inner, above | {id(module)}) if inner is not None else None
            if part is not None:
                parts.append((key, part))
        mask = own
        for _, part in parts:
            mask |= part.mask
        if not mask:
            return None
        known = self.branch(module)
        if known is not None and known.mask == mask:
            return known
        branch = Branch(
            mask,
            own,
            parts,
            list(known.names) if known is not None else [],
            type(module).__name__,
            tuple((name, tuple(p.shape)) for name, p in module.named_parameters() if _is_ready(p)),
            weakref.ref(module),
        )
        if known is not None:
            branch.track = known.track
        for key, parameter in module._parameters.items():
            if parameter is not None and parts and _is_ready(parameter):
                parts.append((key, self.bare(parameter)))
        self._branches[id(module)] = branch
        return branch

    def bare(self, tensor: Tensor) -> Branch:
        """Take down a parameter that stands alone."""
        mask = 1 << self.take(tensor)
        known = self._bare.get(mask)
        if known is None:
            shape = (("", tuple(tensor.shape)),)
            known = self._bare[mask] = Branch(mask, mask, kind="parameter", shape=shape, bare=True)
        return known

    def branches(self) -> Iterator[Branch]:
        """Yield everything that was taken down, each once."""
        seen: set[int] = set()
        for root in (*self.roots, *self._bare.values()):
            for branch in root.inside():
                if id(branch) not in seen:
                    seen.add(id(branch))
                    yield branch

    # Optimizers

    def holding(self, optimizer: Optimizer) -> int:
        """Return the number of an optimizer, taking it down if it is new or has changed."""
        number = self._held.get(id(optimizer))
        if number is None or self.optimizers[number].ref() is not optimizer:
            number = self._held[id(optimizer)] = len(self.optimizers)
            held = Held(weakref.ref(optimizer), kind=type(optimizer).__name__)
            self.optimizers.append(held)
        held = self.optimizers[number]
        groups = optimizer.param_groups
        signature = tuple([len(group["params"]) for group in groups])
        if signature != held.signature:
            held.now = 0
            for group in groups:
                for parameter in group["params"]:
                    held.now |= 1 << self.take(parameter)
            held.mask |= held.now
            held.signature = signature
            held.groups = frozenset(id(group["params"]) for group in groups)
            self.version += 1
        return number

    def constructed(self, number: int) -> None:
        """Take down what there was to hold when an optimizer had just been constructed."""
        held = self.optimizers[number]
        held.known = len(self.parameters)
        for one, ref in enumerate(self.parameters):
            parameter = ref()
            if parameter is not None and not parameter.requires_grad:
                held.frozen |= 1 << one

    def is_held(self, tensor: Tensor) -> bool:
        """Say whether an optimizer was seen to hold a tensor."""
        number = self.number(tensor)
        return number is not None and any(held.mask >> number & 1 for held in self.optimizers)

    # Names

    def learn(self, frame: FrameType | None, depth: int = 6) -> None:
        """Take down the modules and parameters that the calling frames hold, by their names."""
        seen: set[int] = set()
        for current in frames(frame, depth):
            with reading(current) as variables:
                self._name(variables, seen)
            del variables
            self._name(current.f_globals, seen)

    def _name(self, variables: dict[str, Any], seen: set[int]) -> None:
        for name, value in found_in(variables, _is_model, seen=seen):
            branch = self._branch_of(value)
            if branch is not None and name not in branch.names:
                branch.names.append(name)

    def _branch_of(self, value: object) -> Branch | None:
        if isinstance(value, nn.Module):
            return self.enter(value)
        if isinstance(value, Tensor) and self.number(value) is not None:
            return self.bare(value)
        return None

    def search(self, strangers: list[Tensor]) -> None:
        """Find the modules around parameters that nobody has been seen to hold.

        This walks every object of the process, so it is done ever more rarely.
        """
        self._searches += 1
        if self._searches < self._due:
            return
        self._due = self._searches * 2
        wanted = {id(tensor) for tensor in strangers}
        around: list[nn.Module] = []
        inner: set[int] = set()
        for found in gc.get_objects():
            if issubclass(type(found), nn.Module) and "_parameters" in found.__dict__:
                held = [p for p in found.parameters() if id(p) in wanted]
                if held:
                    around.append(found)
                    inner.update(id(part) for part in found.modules() if part is not found)
        for module in around:
            if id(module) not in inner:
                self.enter(module)

    def named(self, branch: Branch, name: str) -> None:
        """Take down what the program calls a module."""
        if name not in branch.names:
            branch.names.append(name)


def paths(root: Branch, name: str) -> Iterator[tuple[str, Branch]]:
    """Yield everything inside a branch with the path by which the program would write it."""
    yield name, root
    module = root.module() if root.module is not None else None
    for key, part in root.parts:
        yield from paths(part, _spelled(name, root.kind, key, module))


def _spelled(name: str, kind: str, key: str, module: nn.Module | None) -> str:
    if module is not None:
        return spelled(name, module, key)
    if kind in ("Sequential", "ModuleList", "ParameterList") and key.isdigit():
        return f"{name}[{key}]"
    return f"{name}[{key!r}]" if kind in ("ModuleDict", "ParameterDict") else f"{name}.{key}"


def _is_model(value: object) -> bool:
    if isinstance(value, nn.Module):
        return "_parameters" in value.__dict__
    return isinstance(value, nn.Parameter)


def _is_ready(parameter: Tensor) -> bool:
    return not isinstance(parameter, nn.UninitializedParameter)


def place_of_program(where: Site) -> Place:
    """Return the innermost place that is the program's own, not an installed package's."""
    from gradguard.runtime.sites import _place

    for code, offset in where.stack:
        name = code.co_filename
        if "site-packages" not in name and "dist-packages" not in name:
            return _place(code, offset)
    return where.place

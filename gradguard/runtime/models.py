"""Models as a guard knows them: named sets of parameters, looked up again whenever asked."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from gradguard.core.policy import matches

__all__ = ["Model", "named", "parameters_of"]


class Model:
    """A named set of parameters, looked up again whenever it is asked for.

    Attributes:
        name: How policies and findings call it.
    """

    def __init__(
        self, name: str, spec: Any, others: Mapping[str, Any] | None = None, *, weak: bool = False
    ) -> None:
        """Take a module, a parameter, several of them, or a pattern over the names in ``others``.

        Args:
            name: How policies and findings call it.
            spec: What it consists of.
            others: The modules over whose parameter names a pattern runs.
            weak: True to let the program drop the modules.

        Raises:
            TypeError: If ``spec`` is none of these.
            ValueError: If it holds no parameter, or the pattern matches none.
        """
        self.name = name
        self._roots: tuple[Callable[[], nn.Module | None], ...] = ()
        self._weak = weak
        self._tensors: tuple[Tensor, ...] = ()
        self._pattern: str | None = None
        self._others: dict[str, nn.Module] = {}
        self._homes: list[weakref.ref[nn.Module]] = []
        self._matched: list[weakref.ref[Tensor]] = []
        if isinstance(spec, str):
            self._pattern = spec
            named = (others or {}).items()
            self._others = {key: value for key, value in named if isinstance(value, nn.Module)}
        else:
            self._take(name, spec)
        if not self.parameters():
            raise ValueError(self._empty(spec))

    def _take(self, name: str, spec: Any) -> None:
        if isinstance(spec, nn.Module):
            self._roots = (self._keep(unwrapped(spec)),)
            return
        parts = (spec,) if isinstance(spec, Tensor) else tuple(_parts(name, spec))
        modules = [unwrapped(part) for part in parts if isinstance(part, nn.Module)]
        self._roots = tuple(self._keep(module) for module in modules)
        self._tensors = tuple(part for part in parts if isinstance(part, Tensor))
        for part in parts:
            if not isinstance(part, nn.Module | Tensor):
                raise TypeError(f"model `{name}` holds {_no_model(part, inside=True)}")
        for tensor in self._tensors:
            if not tensor.is_leaf:
                raise TypeError(
                    f"model `{name}` holds a tensor that was computed from others; only leaves "
                    "receive gradient"
                )

    def _keep(self, module: nn.Module) -> Callable[[], nn.Module | None]:
        return weakref.ref(module) if self._weak else lambda: module

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """The modules it consists of, if it was given as modules."""
        return tuple(module for module in (root() for root in self._roots) if module is not None)

    def _empty(self, spec: Any) -> str:
        if self._pattern is None:
            told = f"model `{self.name}` has no parameters; there is nothing to train or to guard"
            if isinstance(spec, Iterator):
                told += ": it is an iterator, and used up; give the module, or a list"
            return told
        names = [name for name, _ in self._qualified()]
        if not names:
            return (
                f"model `{self.name}` is text, a pattern over the parameter names of modules given "
                "beside it, and there are none; give the module itself"
            )
        shown = ", ".join(f"`{name}`" for name in names[:6])
        return (
            f"model `{self.name}`: the pattern {spec!r} matches no parameter; "
            f"qualified names are: {shown}{', ...' if len(names) > 6 else ''}"
        )

    def _qualified(self) -> list[tuple[str, Tensor]]:
        return [
            (f"{key}.{name}", parameter)
            for key, module in self._others.items()
            for name, parameter in module.named_parameters()
        ]

    @property
    def loose(self) -> bool:
        """True for parameters that were given without a module around them."""
        return not self._roots and self._pattern is None

    @property
    def bare(self) -> bool:
        """True for a single parameter, which is its own output."""
        return self.loose and len(self._tensors) == 1

    def parameters(self) -> list[Tensor]:
        """Return the parameters as they are now, each once."""
        if self._pattern is not None:
            return self._matching(self._pattern)
        found = {id(tensor): tensor for tensor in self._tensors}
        homes = (home() for home in self._homes)
        for module in (*self.modules, *(home for home in homes if home is not None)):
            for parameter in module.parameters():
                found.setdefault(id(parameter), parameter)
        return list(found.values())

    def _matching(self, pattern: str) -> list[Tensor]:
        """Return what the pattern matches, and what it matched under a name that has changed."""
        qualified = self._qualified()
        inside = {id(tensor): tensor for _, tensor in qualified}
        held = (ref() for ref in self._matched)
        found = {id(t): t for t in held if t is not None and inside.get(id(t)) is t}
        found |= {id(tensor): tensor for name, tensor in qualified if matches(name, pattern)}
        self._matched = [weakref.ref(tensor) for tensor in found.values()]
        return list(found.values())

    def live_in(self, module: nn.Module) -> None:
        """Take note that loose parameters live in a module, which may replace them."""
        if self.loose and all(home() is not module for home in self._homes):
            self._homes.append(weakref.ref(module))

    def structure(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Return the names and shapes of a module's parameters, by which copies are known."""
        if len(self.modules) != 1:
            return ()
        return tuple((name, tuple(p.shape)) for name, p in self.modules[0].named_parameters())


def named(models: Any) -> Mapping[str, Any]:
    """Return ``models`` if they are given by name.

    Raises:
        ValueError: If they are not.
    """
    if not isinstance(models, Mapping) or not models:
        raise ValueError('models is a mapping of names to models, such as {"critic": critic}')
    for name in models:
        if not isinstance(name, str) or not name:
            raise ValueError(f"models are named by text, not by {name!r}")
    return models


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module inside compile and data-parallel wrappers."""
    while True:
        inner = module.__dict__.get("_modules", {})
        if "_orig_mod" in inner:
            module = inner["_orig_mod"]
        elif isinstance(module, nn.parallel.DistributedDataParallel | nn.DataParallel):
            module = module.module
        else:
            return module


def parameters_of(name: str, spec: Any) -> list[Tensor]:
    """Return the parameters of a module, a parameter or a collection of them, each once.

    Args:
        name: What to call ``spec`` where it is none of these.
        spec: The module, the parameter or the collection.
    """
    return list({id(parameter): parameter for parameter in Model(name, spec).parameters()}.values())


def _no_model(given: object, *, inside: bool = False) -> str:
    """Say what was given in place of a model, and what to give."""
    kind = type(given).__name__
    shown = "None" if given is None else f"a {kind}"
    if isinstance(given, type):
        return f"the class {given.__name__}, not an instance of it: give what trains"
    if isinstance(given, Optimizer):
        return f"the optimizer {kind}: give the module whose parameters it holds"
    if inside and isinstance(given, Collection) and not isinstance(given, str):
        return f"{shown}: put all modules and parameters into one list, with no other in it"
    return (
        f"{shown}; a model is an nn.Module, a parameter, several of them, or a pattern over "
        "parameter names"
    )


def _parts(name: str, spec: Any) -> Iterable[Any]:
    if isinstance(spec, Mapping):
        values = list(spec.values())
        plain = [type(one) is Tensor and not one.requires_grad for one in values]
        if values and all(plain):
            # What `state_dict` returns shares the values of parameters, and receives no gradient.
            raise TypeError(f"model `{name}` holds no parameter, only values: give the module")
        return values
    if isinstance(spec, type | Optimizer):
        raise TypeError(f"model `{name}` is {_no_model(spec)}")
    try:
        return list(spec)
    except TypeError:
        raise TypeError(f"model `{name}` is {_no_model(spec)}") from None

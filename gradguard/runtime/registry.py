"""Which parameters belong to which models and optimizers: the accounts of a live process."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from gradguard.core.events import Account, Holder
from gradguard.core.judgement import OTHERS
from gradguard.core.policy import matches

__all__ = ["Model", "Registry", "parameters_of"]


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
                raise TypeError(
                    f"model `{name}` holds a {type(part).__name__}; a model is an nn.Module, "
                    "parameters, several of them, or a pattern over parameter names"
                )
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
            return f"model `{self.name}` has no parameters; there is nothing to train or to guard"
        names = [name for name, _ in self._qualified()]
        shown = (
            ", ".join(f"`{name}`" for name in names[:6]) or "none: give the module it is part of"
        )
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


def parameters_of(*specs: Any) -> list[Tensor]:
    """Return the parameters of modules, parameters or collections of them, each once."""
    found: dict[int, Tensor] = {}
    for spec in specs:
        for parameter in Model(type(spec).__name__, spec).parameters():
            found.setdefault(id(parameter), parameter)
    return list(found.values())


def _parts(name: str, spec: Any) -> Iterable[Any]:
    if isinstance(spec, Mapping):
        return list(spec.values())
    try:
        return list(spec)
    except TypeError:
        raise TypeError(
            f"model `{name}` is a {type(spec).__name__}; a model is an nn.Module, a parameter, "
            "several of them, or a pattern over parameter names"
        ) from None


class _Holding:
    """An optimizer that was seen, and the parameters it held then."""

    def __init__(self, optimizer: Optimizer, name: str | None) -> None:
        self.ref = weakref.ref(optimizer)
        self.name = name
        self.signature = signature(optimizer)
        self.ids = frozenset(id(p) for group in optimizer.param_groups for p in group["params"])
        self.accounts: frozenset[Account] = frozenset()


def signature(optimizer: Optimizer) -> tuple[int, ...]:
    """Return what changes when an optimizer is given other parameters."""
    return tuple([len(group["params"]) for group in optimizer.param_groups])


class Registry:
    """The accounts of some models: their parameters by owners and optimizers.

    Parameters are held weakly and looked up by identity; whoever replaces a parameter object is
    noticed when the new one turns up in a graph.

    Args:
        models: The models by name.
    """

    def __init__(self, models: Mapping[str, Any]) -> None:
        """Look up the parameters of ``models`` and build their accounts."""
        self.models: dict[str, Model] = {
            name: Model(name, spec, models) for name, spec in models.items()
        }
        self.accounts: list[Account] = []
        self.members: dict[Account, list[weakref.ref[Tensor]]] = {}
        self._of: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        self._strangers: dict[int, weakref.ref[Tensor]] = {}
        self._holdings: dict[int, _Holding] = {}
        self._in_modules: dict[int, list[str]] = {}
        self._holders: tuple[int, ...] = ()
        self.looked = False
        self.version = 0
        self.on_change: Callable[[Callable[[Account], Iterable[Account]]], None] | None = None
        self.refresh()

    def names(self) -> list[str]:
        """Return the names of the models, the most specific first."""
        sizes = {name: len(model.parameters()) for name, model in self.models.items()}
        return sorted(self.models, key=lambda name: sizes[name])

    def add(self, name: str, spec: Any) -> str:
        """Take in a model that turned up late; return the name it got."""
        unique, number = name, 2
        while unique in self.models:
            unique, number = f"{name} ({number})", number + 1
        self.models[unique] = Model(unique, spec, weak=isinstance(spec, nn.Module))
        self.refresh()
        return unique

    def refresh(self) -> None:
        """Look all parameters up again; rebuild the accounts and say so if they have changed."""
        held = {name: model.parameters() for name, model in self.models.items()}
        for name in [name for name, parameters in held.items() if not parameters]:
            # What turned up and was dropped again by the program.
            del self.models[name], held[name]
        self._holdings = {
            number: holding
            for number, holding in self._holdings.items()
            if holding.ref() is not None
        }
        before = {key: self.accounts[index] for key, (_, index) in self._of.items()}
        holders = self._holders
        self._divide(held)
        self._strangers = {}
        self._in_modules = self._trees()
        sets = {name: {id(p) for p in parameters} for name, parameters in held.items()}
        self._inside = {
            name: frozenset(other for other, theirs in sets.items() if theirs < mine)
            for name, mine in sets.items()
        }
        after = {key: self.accounts[index] for key, (_, index) in self._of.items()}
        self._holders = tuple(self._holdings)
        if before == after and holders == self._holders:
            return
        self.version += 1
        if self.on_change is not None:
            moved: dict[Account, set[Account]] = {}
            for key, old in before.items():
                if key in after:
                    moved.setdefault(old, set()).add(after[key])
            self.on_change(lambda account: moved.get(account, {account}))

    def _divide(self, held: Mapping[str, list[Tensor]]) -> None:
        """Sort parameters into accounts: one for each set of owners and optimizers."""
        owners: dict[int, list[str]] = {}
        tensors: dict[int, Tensor] = {}
        for name in sorted(held, key=lambda name: len(held[name])):
            for parameter in held[name]:
                owners.setdefault(id(parameter), []).append(name)
                tensors[id(parameter)] = parameter
        keys: dict[tuple[tuple[str, ...], tuple[int, ...]], int] = {}
        parts: dict[tuple[str, ...], int] = {}
        self.members, self._of, self.accounts = {}, {}, []
        for key, tensor in tensors.items():
            mine = tuple(owners[key])
            cell = (mine, tuple(n for n, holding in self._holdings.items() if key in holding.ids))
            if cell not in keys:
                parts[mine] = parts.get(mine, -1) + 1
                keys[cell] = len(self.accounts)
                self.accounts.append(Account(mine, parts[mine]))
            ref = weakref.ref(tensor)
            self.members.setdefault(self.accounts[keys[cell]], []).append(ref)
            self._of[key] = (ref, keys[cell])
        for holding in self._holdings.values():
            accounts = (self.accounts[self._of[key][1]] for key in holding.ids if key in self._of)
            holding.accounts = frozenset(accounts)

    def _trees(self) -> dict[int, list[str]]:
        """Say for each module, by identity, of which models it is a part."""
        found: dict[int, list[str]] = {}
        for name, model in self.models.items():
            for module in dict.fromkeys(m for root in model.modules for m in root.modules()):
                found.setdefault(id(module), []).append(name)
        return found

    def modules(self) -> list[nn.Module]:
        """Return the modules of all models."""
        return [module for model in self.models.values() for module in model.modules]

    def called_by(self, module: nn.Module) -> tuple[list[str], bool]:
        """Find the models that a call of ``module`` is a call of.

        A module belongs to the models it is a part of; models that were given as parameters or
        patterns, and wrappers around models, are known by the parameters inside.

        Returns:
            Their names, containers of others among them left out; and whether any parameter of
            the module belongs to some model.
        """
        owned = [self.owned(parameter) for parameter in module.parameters()]
        common = frozenset.intersection(*owned) if owned else frozenset[str]()
        placed = self._in_modules.get(id(module), [])
        named = [
            name
            for name, model in self.models.items()
            if name in placed or (name in common and (not placed or not model.modules))
        ]
        for name in named:
            self.models[name].live_in(module)
        inner = [name for name in named if not self._inside[name].intersection(named)]
        return (inner if placed or not inner else inner[:1]), any(owned)

    def inside(self, name: str) -> frozenset[str]:
        """Return the models that lie wholly inside another one and are smaller."""
        return self._inside[name]

    def owned(self, tensor: Tensor) -> frozenset[str]:
        """Return the names of the models that hold ``tensor``."""
        known = self._of.get(id(tensor))
        if known is None or known[0]() is not tensor:
            return frozenset()
        return frozenset(self.accounts[known[1]].owners)

    def index(self, leaf: Tensor) -> int | None:
        """Return the number of the account that ``leaf`` belongs to.

        Returns:
            The index into ``accounts``; -1 for a trainable parameter outside all models;
            ``None`` for a leaf that nobody trains, such as the interpolate of a gradient penalty.
        """
        known = self._of.get(id(leaf))
        if known is not None and known[0]() is leaf:
            return known[1]
        if not isinstance(leaf, nn.Parameter):
            return -1 if self.held(leaf) else None
        stranger = self._strangers.get(id(leaf))
        if (stranger is None or stranger() is not leaf) and not self.looked:
            # A parameter nobody knows may have replaced one of ours: look all of them up again,
            # once a backward at most.
            self.looked = True
            self.refresh()
            known = self._of.get(id(leaf))
            if known is not None and known[0]() is leaf:
                return known[1]
        self._strangers[id(leaf)] = weakref.ref(leaf)
        return -1

    def begin(self) -> None:
        """Allow one more look for replaced parameters: a new backward begins."""
        self.looked = False

    def account(self, index: int) -> Account:
        """Return an account by number, -1 being everything outside the models."""
        return OTHERS if index < 0 else self.accounts[index]

    def empty(self, account: Account) -> bool:
        """Say whether no parameter of an account has a gradient."""
        for ref in self.members.get(account, ()):
            tensor = ref()
            if tensor is not None and tensor.grad is not None:
                return False
        return True

    def parameters(self, account: Account) -> list[Tensor]:
        """Return the parameters of an account that are still alive."""
        alive = (ref() for ref in self.members.get(account, ()))
        return [tensor for tensor in alive if tensor is not None]

    def untrainable(self, names: Iterable[str]) -> frozenset[str]:
        """Return those of the models ``names`` in which nothing requires gradient now."""
        return frozenset(
            name
            for name in names
            if not any(p.requires_grad for p in self.models[name].parameters())
        )

    def held(self, leaf: Tensor) -> bool:
        """Say whether an optimizer that was seen holds ``leaf``."""
        return any(id(leaf) in holding.ids for holding in self._holdings.values())

    def held_by(self, optimizer: Optimizer) -> frozenset[Account]:
        """Return the accounts an optimizer holds, taking it in if it is new or has changed."""
        holding = self._holdings.get(id(optimizer))
        if holding is None or holding.ref() is not optimizer:
            self._holdings[id(optimizer)] = holding = _Holding(optimizer, None)
            self.refresh()
        elif holding.signature != signature(optimizer):
            self._holdings[id(optimizer)] = holding = _Holding(optimizer, holding.name)
            self.refresh()
        return holding.accounts

    def name(self, optimizer: Optimizer, found: Callable[[], str]) -> str:
        """Return the name of an optimizer that was taken in, naming it at its first step.

        Where it steps it is called by its own name; where it clears often by a loop's variable.
        """
        holding = self._holdings[id(optimizer)]
        if holding.name is None:
            taken = [other.name for other in self._holdings.values() if other.name is not None]
            shown = found()
            number = sum(other.split(" (")[0] == shown for other in taken)
            holding.name = f"{shown} ({number + 1})" if number else shown
        return holding.name

    def holder(self, account: Account) -> Holder:
        """Say who updates an account, as far as the optimizers seen so far tell."""
        if self._is_held(account):
            return Holder.OPTIMIZER
        mine = self.models[account.owners[0]]
        structure = mine.structure()
        twins = {
            name
            for name, other in self.models.items()
            if structure and other.modules != mine.modules and other.structure() == structure
        }
        trained = any(
            twins.intersection(other.owners) and self._is_held(other) for other in self.accounts
        )
        return Holder.SHADOW if trained else Holder.NOBODY

    def _is_held(self, account: Account) -> bool:
        return any(account in holding.accounts for holding in self._holdings.values())

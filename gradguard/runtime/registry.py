"""Which parameters belong to which models and optimizers: the accounts of a live process."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from gradguard.core.events import Account, Clear, Holder, Spend
from gradguard.core.judgement import OTHERS
from gradguard.runtime.models import Model

__all__ = ["Registry"]


class _Holding:
    """An optimizer that was seen, and the parameters it held then."""

    def __init__(self, optimizer: Optimizer, name: str | None) -> None:
        self.ref = weakref.ref(optimizer)
        self.name = name
        self.signature = signature(optimizer)
        self.ids = frozenset(id(p) for group in optimizer.param_groups for p in group["params"])
        self.hold(())

    def hold(self, accounts: Iterable[Account]) -> None:
        """Take note of the accounts that the parameters lie in.

        What the optimizer does to them is made once, so that it is known again.
        """
        self.accounts = frozenset(accounts)
        self.clear = (Clear(self.accounts),)
        self.spend = (Spend(self.name, self.accounts),) if self.name is not None else ()


_parameters = itemgetter("params")


def signature(optimizer: Optimizer) -> list[int]:
    """Return what changes when an optimizer is given other parameters."""
    return list(map(len, map(_parameters, optimizer.param_groups)))


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
            holding.hold(self.accounts[self._of[key][1]] for key in holding.ids if key in self._of)

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
        return self.holding(optimizer).accounts

    def holding(self, optimizer: Optimizer) -> _Holding:
        """Return what an optimizer holds, taking it in if it is new or has changed."""
        holding = self._holdings.get(id(optimizer))
        if holding is None or holding.ref() is not optimizer:
            self._holdings[id(optimizer)] = holding = _Holding(optimizer, None)
            self.refresh()
        elif holding.signature != signature(optimizer):
            self._holdings[id(optimizer)] = holding = _Holding(optimizer, holding.name)
            self.refresh()
        return holding

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
            holding.hold(holding.accounts)
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

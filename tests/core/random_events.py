"""Random worlds of models, accounts and optimizers, and random events in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from hypothesis import strategies as st

from gradguard.core.events import Account, Backward, Clear, Deposit, Event, Holder, Restart, Spend
from gradguard.core.findings import Location, Place
from gradguard.core.ledger import Ledger
from gradguard.core.policy import Policy, Rule

Step = tuple[Event, bool]
"""An event, and whether it is a further loss of the same backward pass."""


@dataclass(frozen=True)
class World:
    """Who holds what, and what each loss may train."""

    models: tuple[str, ...]
    accounts: tuple[Account, ...]
    optimizers: Mapping[str, frozenset[Account]]
    rules: Mapping[str, Rule]

    def ledger(self) -> Ledger:
        """Open an empty ledger."""
        return Ledger(Policy(self.rules), self.models)

    def kept(self, steps: Iterable[Step]) -> Ledger:
        """Return a ledger that has been told of ``steps``."""
        ledger = self.ledger()
        for event, joint in steps:
            ledger.post(event, joint=joint)
        return ledger


def up_to(draw: st.DrawFn, most: int) -> int:
    """Draw a number from 0 to ``most``."""
    return draw(NUMBERS[most])


# One number for each choice: drawing sets of accounts as such takes ten times as long.
NUMBERS = [st.integers(0, most) for most in range(32)]


def chosen(accounts: Sequence[Account], mask: int) -> tuple[Account, ...]:
    """Return the accounts whose bits are set."""
    return tuple(account for bit, account in enumerate(accounts) if mask >> bit & 1)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Draw two or three models in two to four accounts, their optimizers and a policy."""
    models = ("m0", "m1", "m2")[: 2 + up_to(draw, 1)]
    shapes = ([], [], [Account(("m0",), 1)], [Account(("m1", "m0"))])
    accounts = (*(Account((model,)) for model in models), *shapes[up_to(draw, 3)])
    optimizers = {
        f"o{n}": frozenset(chosen(accounts, 1 + up_to(draw, 2 ** len(accounts) - 2)))
        for n in range(1 + up_to(draw, 2))
    }
    rules = {f"l{n}": rule_over(draw, models) for n in range(2 + up_to(draw, 1))}
    named = {loss: rule for loss, rule in rules.items() if rule is not None}
    return World(models, accounts, optimizers, named)


def rule_over(draw: st.DrawFn, models: Sequence[str]) -> Rule | None:
    """Draw what one loss may train, or ``None`` for a loss that the policy does not name."""
    said: dict[str, set[str]] = {"must": set(), "never": set(), "may": set(), "": set()}
    words = ("must", "never", "", "may")
    for model in models:
        said[words[up_to(draw, 3)]].add(model)
    demanded, may, never = (frozenset(said[word]) for word in ("must", "may", "never"))
    kind = up_to(draw, 5)
    if kind == 5:
        return None
    return Rule(None, demanded, may, never) if kind == 4 else Rule(demanded, may=may, never=never)


def backward(draw: st.DrawFn, world: World) -> Backward:
    """Draw a backward pass; what lies behind is the same for all accounts of the same owners."""
    every = world.accounts
    reached = chosen(every, 1 + up_to(draw, 2 ** len(every) - 2))
    behind = {
        owners: frozenset(chosen(every, up_to(draw, 2 ** len(every) - 1)))
        for owners in {account.owners: None for account in reached}
    }
    odd = up_to(draw, 11)
    holder = {9: Holder.SHADOW, 10: Holder.NOBODY}.get(odd, Holder.OPTIMIZER)
    return Backward(
        f"l{up_to(draw, 2)}",
        tuple(Deposit(a, behind[a.owners] - {a}, holder=holder) for a in reached),
        untrainable=frozenset(world.models[:1] if odd == 8 else ()),
        blind=odd == 11,
    )


def event_in(draw: st.DrawFn, world: World, row: int) -> Event:
    """Draw one event, on a line of its own."""
    place = Place("train.py", Location(row, 1))
    kind = up_to(draw, 15)
    if kind < 8:
        return replace(backward(draw, world), place=place)
    if kind < 13:
        name = f"o{up_to(draw, len(world.optimizers) - 1)}"
        return Spend(name, world.optimizers[name], place)
    if kind < 15:
        cleared = chosen(world.accounts, 1 + up_to(draw, 2 ** len(world.accounts) - 2))
        return Clear(frozenset(cleared), place)
    return Restart()


@st.composite
def steps_in(draw: st.DrawFn, world: World, longest: int = 12) -> list[Step]:
    """Draw what happens in a world."""
    steps: list[Step] = []
    for row in range(3 + up_to(draw, longest - 3)):
        event = event_in(draw, world, row + 1)
        after = bool(steps) and isinstance(steps[-1][0], Backward) and isinstance(event, Backward)
        steps.append((event, after and up_to(draw, 1) == 1))
    return steps


def stories(longest: int = 12) -> st.SearchStrategy[tuple[World, list[Step]]]:
    """Draw a world and what happens in it."""
    return worlds().flatmap(lambda world: st.tuples(st.just(world), steps_in(world, longest)))


@st.composite
def loops(draw: st.DrawFn) -> tuple[World, list[Event]]:
    """Draw a world in which the same few events come again and again."""
    world = draw(worlds())
    reached = world.optimizers["o0"]
    pool = [
        Clear(frozenset(world.accounts)),
        Backward("l0", tuple(map(Deposit, sorted(reached))), Place("train.py", Location(8, 1))),
        Spend("o0", reached, Place("train.py", Location(9, 1))),
        *(event_in(draw, world, row + 1) for row in range(up_to(draw, 3))),
    ]
    return world, [pool[up_to(draw, len(pool) - 1)] for _ in range(4 + up_to(draw, 20))]


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Rename models, losses and optimizers wherever they stand, in values and in sentences."""
    if isinstance(value, str):
        return re.sub(r"\b[mlo]\d\b", lambda found: names[found.group()], value)
    if isinstance(value, Account):
        return value._replace(owners=renamed(value.owners, names))
    if isinstance(value, tuple | frozenset):
        return type(value)(renamed(one, names) for one in value)
    if isinstance(value, Mapping):
        return {renamed(key, names): renamed(one, names) for key, one in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        every = {field.name: renamed(getattr(value, field.name), names) for field in fields(value)}
        return replace(value, **every)
    return value


EVERY_NAME = [f"{letter}{number}" for letter in "mlo" for number in range(4)]
# Models stay in the order of the alphabet, in which sentences list them.
OTHER_NAMES = {
    name: f"other_{name}" if name[0] == "m" else f"{chr(ord('z') - n)}_{name[0]}"
    for n, name in enumerate(EVERY_NAME)
}


def units(steps: Sequence[Step]) -> list[list[Step]]:
    """Group the losses of one backward pass, which nothing can come between."""
    grouped: list[list[Step]] = []
    for step in steps:
        if step[1]:
            grouped[-1].append(step)
        else:
            grouped.append([step])
    return grouped


def halved(value: Any) -> Any:
    """Divide every account in two, wherever accounts are named."""
    if isinstance(value, Backward):
        return replace(value, deposits=tuple(h for d in value.deposits for h in halved(d)))
    if isinstance(value, Deposit):
        return [
            replace(value, account=half, behind=halved(value.behind))
            for half in sorted(halved(frozenset({value.account})), key=lambda account: account.part)
        ]
    if isinstance(value, Clear | Spend):
        return replace(value, accounts=halved(value.accounts))
    if isinstance(value, frozenset):
        return frozenset(a._replace(part=2 * a.part + half) for a in value for half in (0, 1))
    return value

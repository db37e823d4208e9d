"""What each loss is meant to train where nobody has declared it: read off the order of events.

A loss is meant for the optimizers that step after its backward and before the next one. Where
several losses precede several steps, reach decides, by losses or by their terms, and what reach
cannot decide stays open: an undecided loss is meant for every optimizer that steps with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gradguard.core.events import Account, Backward, Clear, Event, Restart, Spend
from gradguard.core.findings import Place
from gradguard.core.policy import Policy, Rule

__all__ = ["infer"]


_Reach = dict[Account, frozenset[Account]]
"""What a loss reaches, each with what lies behind it."""


@dataclass(slots=True)
class _Window:
    """Backward passes and the steps that follow them before the next backward."""

    backwards: dict[str, _Reach] = field(default_factory=dict)
    steps: dict[str, frozenset[Account]] = field(default_factory=dict)
    terms: dict[str, dict[str, _Reach]] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)


def infer(
    events: Iterable[Event], terms: Callable[[Backward], Sequence[Backward]] = lambda _: ()
) -> Policy:
    """Infer what each loss may train from what a process did.

    Args:
        events: Events in order, with what lies behind each deposit filled in.
        terms: Gives the summands of a loss, each as a backward of its own; none if they are not
            all known.

    Returns:
        A policy that closes the set of models for every loss that a step has followed, and
        requires none: absence is no intention. Losses that no step has followed are left out.
        Terms are in it where they settle what a joint loss leaves open.

    Example:
        >>> critic, generator = Account(("critic",)), Account(("generator",))
        >>> policy = infer([
        ...     Backward("critic_loss", (Deposit(critic), Deposit(generator))),
        ...     Spend("critic_opt", frozenset([critic])),
        ... ])
        >>> policy.rule("critic_loss").to_dict()
        {'may': ['critic']}
    """
    meant: dict[str, set[Account]] = {}
    for window in _windows(events, terms):
        for loss, accounts in _settle(window).items():
            meant.setdefault(loss, set()).update(accounts)
    return Policy(
        {
            loss: Rule(only=frozenset(), may=frozenset(account.owners[0] for account in accounts))
            for loss, accounts in meant.items()
        }
    )


def _windows(
    events: Iterable[Event], terms: Callable[[Backward], Sequence[Backward]]
) -> Iterator[_Window]:
    window = _Window()
    for event in events:
        match event:
            case Backward():
                if window.steps:
                    yield window
                    window = _Window()
                _add(window.backwards.setdefault(event.loss, {}), event)
                window.places[event.loss] = event.place
                summands = window.terms.setdefault(event.loss, {})
                for term in terms(event):
                    _add(summands.setdefault(term.loss, {}), term)
            case Spend():
                if window.backwards:
                    known = window.steps.get(event.optimizer, frozenset())
                    window.steps[event.optimizer] = known | event.accounts
            case Clear() | Restart():
                pass
    if window.steps:
        yield window


def _add(reached: _Reach, event: Backward) -> None:
    for deposit in event.deposits:
        known = reached.get(deposit.account, frozenset())
        reached[deposit.account] = known | deposit.behind


def _settle(window: _Window) -> Mapping[str, frozenset[Account]]:
    stepped = frozenset[Account]().union(*window.steps.values())
    if len(window.backwards) == 1:
        (loss,) = window.backwards
        return {**_by_terms(window, window.terms[loss], stepped), loss: stepped}
    if len(window.steps) == 1:
        # Whatever one optimizer applies in one step is one objective.
        return dict.fromkeys(window.backwards, stepped)
    wanted = {loss: _wanted(window, reached) for loss, reached in window.backwards.items()}
    matching = unique_matching(wanted, list(window.steps))
    if matching is not None:
        return {
            loss: _with_what_lies_behind(window.steps[name], window.backwards[loss], stepped)
            for loss, name in matching.items()
        }
    peers = _by_peers(window, stepped)
    if peers is not None:
        return peers
    direct = {
        loss: frozenset(
            account
            for account, behind in reached.items()
            if account in stepped and not behind & stepped - {account}
        )
        for loss, reached in window.backwards.items()
    }
    served = frozenset[Account]().union(*direct.values())
    if all(direct.values()) and all(held & served for held in window.steps.values()):
        return direct
    return dict.fromkeys(window.backwards, stepped)


def _wanted(window: _Window, reached: Iterable[Account]) -> list[str]:
    """Return the optimizers that step and hold some of what is reached."""
    accounts = frozenset(reached)
    return [name for name, held in window.steps.items() if held & accounts]


def _by_terms(
    window: _Window, terms: Mapping[str, _Reach], stepped: frozenset[Account]
) -> dict[str, frozenset[Account]]:
    """Give each term of the only loss an optimizer of its own, where there is one way to do so."""
    if len(window.steps) < 2:
        return {}
    wanted = {term: _wanted(window, reached) for term, reached in terms.items()}
    matching = unique_matching(wanted, list(window.steps))
    if matching is None:
        return {}
    return {
        term: _around(
            _with_what_lies_behind(window.steps[name], terms[term], stepped), terms[term], stepped
        )
        for term, name in matching.items()
    }


def _by_peers(window: _Window, stepped: frozenset[Account]) -> dict[str, frozenset[Account]] | None:
    """Tell losses apart that one line runs backward in turn, one for each optimizer that steps.

    All terms of such a loss reach the model that it is about; what only some of them reach is
    another's.
    """
    if len(window.backwards) != len(window.steps) or len(set(window.places.values())) > 1:
        return None
    cores: dict[str, str] = {}
    for loss in window.backwards:
        terms = [set(_wanted(window, reached)) for reached in window.terms[loss].values()]
        core = set.intersection(*terms) if terms else set()
        if len(core) != 1:
            return None
        cores[loss] = core.pop()
    if len(set(cores.values())) != len(window.steps):
        return None
    return {
        loss: _around(window.steps[name], window.backwards[loss], stepped)
        for loss, name in cores.items()
    }


def _around(
    held: frozenset[Account], reached: _Reach, stepped: frozenset[Account]
) -> frozenset[Account]:
    """Add what has to be passed through: within one joint loss it may well be meant, too."""
    return held | {account for account in stepped if reached.get(account, frozenset()) & held}


def _with_what_lies_behind(
    held: frozenset[Account],
    reached: Mapping[Account, frozenset[Account]],
    stepped: frozenset[Account],
) -> frozenset[Account]:
    behind = frozenset[Account]().union(*(reached[a] for a in held if a in reached))
    return held | behind & stepped


def unique_matching(
    wanted: Mapping[str, Sequence[str]], optimizers: Sequence[str]
) -> dict[str, str] | None:
    """Return the only way to give each loss an optimizer of its own and use all of them.

    Args:
        wanted: For each loss the optimizers whose parameters it reaches.
        optimizers: All optimizers that step.

    Returns:
        The optimizer of each loss, or ``None`` if there is no such way or more than one.

    Example:
        >>> unique_matching({"critic_loss": ["c"], "actor_loss": ["c", "a"]}, ["c", "a"])
        {'critic_loss': 'c', 'actor_loss': 'a'}
    """
    if len(wanted) != len(optimizers):
        return None
    first = _matching(wanted, {})
    if first is None:
        return None
    for loss, name in first.items():
        # A second matching differs from the first in some edge: forbid each in turn.
        if _matching(wanted, {loss: name}) is not None:
            return None
    return first


def _matching(
    wanted: Mapping[str, Sequence[str]], without: Mapping[str, str]
) -> dict[str, str] | None:
    """Find a perfect matching by augmenting paths (Kuhn 1955), avoiding one edge."""
    taken: dict[str, str] = {}

    def place(loss: str, tried: set[str]) -> bool:
        for name in wanted[loss]:
            if name in tried or without.get(loss) == name:
                continue
            tried.add(name)
            if name not in taken or place(taken[name], tried):
                taken[name] = loss
                return True
        return False

    if not all(place(loss, set()) for loss in wanted):
        return None
    found = {loss: name for name, loss in taken.items()}
    return {loss: found[loss] for loss in wanted}

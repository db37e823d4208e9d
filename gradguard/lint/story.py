"""What an execution tells, in the ledger's words: models, losses, and events over accounts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gradguard.core.events import (
    Account,
    Backward,
    Clear,
    Deposit,
    Event,
    Evidence,
    Holder,
    Restart,
    Spend,
)
from gradguard.core.findings import Location, Place, TraceStep
from gradguard.lint.namesakes import namesake
from gradguard.lint.run import BackwardAt, ClearAt, Happening, Run, StepAt, WriteAt
from gradguard.lint.values import Arrival, Flow, Hidden, Optimizer, Site, Unit

__all__ = ["Model", "Story", "beside", "outward", "place", "tell", "tokens"]


def place(site: Site | None, otherwise: Site | None = None) -> Place:
    """Return a site as findings name it."""
    site = site or otherwise
    if site is None:
        return Place("<unknown>", Location(1, 1))
    return Place(
        site.filename, Location(site.row, site.column), Location(site.end_row, site.end_column)
    )


@dataclass(eq=False, slots=True)
class Model:
    """Units that one optimizer treats alike and that losses reach alike.

    Attributes:
        name: How the program calls it.
        units: Its parameters.
        holders: The optimizers that hold it.
        account: Its account in the ledger.
        sure: False if it cannot be told from a model around it or inside it.
    """

    name: str
    units: tuple[Unit, ...]
    holders: tuple[Optimizer, ...]
    account: Account
    sure: bool = True

    @property
    def shadow(self) -> bool:
        """True if it is a copy that no optimizer holds."""
        return not self.holders and all(unit.shadow and not unit.lent for unit in self.units)


@dataclass(slots=True)
class Story:
    """An execution, told.

    Attributes:
        run: The execution.
        models: All models.
        of_unit: The model of each unit.
        losses: For each backward pass the name of its loss.
        events: What happened, in the ledger's words, each with what it was made from.
        optimizers: The optimizers that step.
        unpaired: Optimizers of which it is not known what they hold.
        elsewhere: Models that were passed in, and that other executions of the file train.
        terms: For each backward event that has several summands those, each as an event.
    """

    run: Run
    models: list[Model] = field(default_factory=list)
    of_unit: dict[Unit, Model] = field(default_factory=dict)
    losses: dict[int, str] = field(default_factory=dict)
    events: list[tuple[Event, Happening | None]] = field(default_factory=list)
    optimizers: list[Optimizer] = field(default_factory=list)
    unpaired: list[Optimizer] = field(default_factory=list)
    elsewhere: frozenset[tuple[str, ...]] = frozenset()
    terms: dict[int, tuple[Backward, ...]] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)

    def reached(self, event: BackwardAt, flow: Flow | None = None) -> dict[Model, list[Arrival]]:
        """Return the models that a backward pass, or a term of its loss, reaches, with how."""
        found: dict[Model, list[Arrival]] = {}
        for unit, arrival in (event.flow if flow is None else flow).items():
            model = self.of_unit.get(unit)
            if model is not None:
                found.setdefault(model, []).append(arrival)
        return found

    def name(self, optimizer: Optimizer) -> str:
        """Return the name of an optimizer in the ledger's events."""
        return self.names[id(optimizer)]

    @property
    def trained(self) -> Iterator[tuple[str, ...]]:
        """Walk the names of models that were passed in together with their optimizers."""
        for optimizer in self.optimizers:
            if not optimizer.complete:
                yield from (unit.path for unit in optimizer.units if unit.opaque)

    @property
    def backwards(self) -> list[BackwardAt]:
        """All backward passes."""
        return [event for event in self.run.events if isinstance(event, BackwardAt)]

    @property
    def steps(self) -> list[StepAt]:
        """All steps."""
        return [event for event in self.run.events if isinstance(event, StepAt)]


def tell(run: Run) -> Story:
    """Tell what an execution did."""
    story = Story(run)
    for event in story.backwards:
        # A tensor that requires gradient and that nobody optimizes counts for nothing.
        event.leaves = frozenset(u for u in event.flow if u.tensor and not u.holders)
        event.flow = {u: a for u, a in event.flow.items() if not u.tensor or u.holders}
    _pair(story)
    _find_models(story)
    _name_losses(story)
    _translate(story)
    return story


# --- optimizers that were passed in -------------------------------------------------------------


def _pair(story: Story) -> None:
    """Find out what optimizers hold that were never seen being built."""
    stepped = {id(e.optimizer): e.optimizer for e in story.run.events if isinstance(e, StepAt)}
    cleared = {
        id(e.optimizer): e.optimizer
        for e in story.run.events
        if isinstance(e, ClearAt) and e.optimizer is not None
    }
    story.optimizers = list(stepped.values())
    reached: dict[Unit, None] = {}
    for event in story.backwards:
        reached.update(dict.fromkeys(event.flow))
    for optimizer in {**cleared, **stepped}.values():
        if optimizer.units or optimizer.complete:
            continue
        found = _by_holder(optimizer, reached) or _by_name(optimizer, reached, stepped.values())
        if not found:
            story.unpaired.append(optimizer)
        for unit in found:
            optimizer.units[unit] = None
            unit.holders.append(optimizer)
    # What a cleared optimizer holds was not known when it was cleared.
    for happening in story.run.events:
        match happening:
            case ClearAt(units=(), optimizer=Optimizer() as optimizer):
                happening.units = tuple(optimizer.units)
            case _:
                continue
    names: dict[str, int] = {}
    for optimizer in {**cleared, **stepped}.values():
        number = names[optimizer.name] = names.get(optimizer.name, 0) + 1
        named = optimizer.name if number == 1 else f"{optimizer.name} ({number})"
        story.names[id(optimizer)] = named


def _by_holder(optimizer: Optimizer, units: Iterable[Unit]) -> list[Unit]:
    holder = optimizer.path[:-1]
    if not holder or holder == ("self",):
        return []
    held = [unit for unit in units if unit.path[: len(holder)] == holder]
    paths = {unit.path for unit in held}
    return [unit for unit in held if namesake(unit.path) not in paths]


_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_NOISE = frozenset(
    [
        "self",
        "optim",
        "optimizer",
        "optimizers",
        "opt",
        "optimiser",
        "net",
        "network",
        "model",
        "module",
        "nets",
        "models",
        "the",
        "i",
        "a",
        "local",
        "main",
        "module",
    ]
)
_SYNONYMS = (
    frozenset(["g", "gen", "generator", "netg"]),
    frozenset(["d", "dis", "disc", "discriminator", "netd", "critic"]),
    frozenset(["actor", "policy", "pi", "p"]),
    frozenset(["critic", "q", "v", "value", "qf", "vf", "qnet"]),
    frozenset(["enc", "encoder", "e"]),
    frozenset(["dec", "decoder"]),
    frozenset(["alpha", "temperature", "temp", "ent", "entropy"]),
)


def tokens(path: Iterable[str]) -> set[str]:
    """Return the words of names that tell models apart."""
    found: set[str] = set()
    for part in path:
        for word in _WORDS.findall(part):
            low = word.lower()
            for ending in ("optimizer", "optim", "opt"):
                if low.endswith(ending) and low != ending:
                    low = low[: -len(ending)]
            if low not in _NOISE:
                found.add(low)
    return found


def _alike(one: set[str], two: set[str]) -> int:
    exact = len(one & two)
    related = sum(1 for group in _SYNONYMS if one & group and two & group)
    return 2 * exact + related


def _by_name(
    optimizer: Optimizer, units: Iterable[Unit], others: Iterable[Optimizer]
) -> list[Unit]:
    wanted = tokens(optimizer.path[-1:]) or tokens(optimizer.path)
    by_top: dict[tuple[str, ...], list[Unit]] = {}
    for unit in units:
        by_top.setdefault(_top(unit), []).append(unit)
    if not wanted:
        # The one optimizer of the scope steps the one model of the scope.
        alone = len(list(others)) == 1 and len(by_top) == 1
        return next(iter(by_top.values())) if alone else []
    scores = {top: _alike(wanted, tokens(top)) for top in by_top}
    best = max(scores.values(), default=0)
    if best == 0:
        return []
    winners = [top for top, score in scores.items() if score == best]
    if best < 2 and len(winners) > 1:
        return []
    return [unit for top in winners for unit in by_top[top]]


def _top(unit: Unit) -> tuple[str, ...]:
    path = unit.path
    if path and path[0] == "self":
        return path[:2]
    return path[:1]


# --- models -------------------------------------------------------------------------------------


def _find_models(story: Story) -> None:
    units: dict[Unit, None] = {}
    reach: dict[Unit, list[int]] = {}
    for number, event in enumerate(story.backwards):
        for unit in event.flow:
            units[unit] = None
            reach.setdefault(unit, []).append(number)
    # A clear covers an account whole or not at all.
    clears: dict[Unit, list[int]] = {}
    for number, happening in enumerate(story.run.events):
        if isinstance(happening, ClearAt):
            for unit in happening.units:
                clears.setdefault(unit, []).append(number)
    for optimizer in story.optimizers:
        units.update(optimizer.units)
    held = {_top(unit) for unit in units if unit.holders}
    paths = {unit.path for unit in units if unit.holders}
    for unit in units:
        if unit.holders:
            continue
        if namesake(_top(unit)) in held or namesake(unit.path) in paths:
            unit.shadow = True
    groups: dict[tuple[object, ...], list[Unit]] = {}
    for unit in units:
        held_by = tuple(sorted(id(o) for o in unit.holders if o in story.optimizers))
        touched = tuple(reach.get(unit, ())), tuple(clears.get(unit, ()))
        key = (_top(unit) or id(unit), held_by, touched, unit.bare, unit.shadow)
        groups.setdefault(key, []).append(unit)
    used: dict[str, int] = {}
    owners: dict[str, tuple[object, ...]] = {}
    tops: dict[object, int] = {}
    for group in groups:
        tops[group[0]] = tops.get(group[0], 0) + 1
    for group, members in groups.items():
        holders = tuple(o for o in story.optimizers if any(o in u.holders for u in members[:1]))
        name = _common_name(members, units, alone=tops[group[0]] == 1)
        # What a function makes at its second call is called as at the first.
        origin = (members[0].made, *(one.site for one in holders))
        first = owners.setdefault(name, origin)
        if first != origin and not (members[0].shadow and name in used):
            # Two models that happen to be called the same are not one.
            name = f"{name} ({sum(one.startswith(name) for one in owners) + 1})"
            owners[name] = origin
        part = used[name] = used.get(name, -1) + 1
        model = Model(name, tuple(members), holders, Account((name,), part))
        story.models.append(model)
        for unit in members:
            story.of_unit[unit] = model
    for model in story.models:
        model.sure = not any(
            _inside(one, two) or _inside(two, one)
            for one in model.units
            for two in story.of_unit
            if story.of_unit[two] is not model and two.opaque and one.opaque
        )


def _inside(one: Unit, two: Unit) -> bool:
    return (
        len(one.path) < len(two.path) and two.path[: len(one.path)] == one.path and bool(one.path)
    )


def _common_name(members: list[Unit], units: Iterable[Unit], *, alone: bool) -> str:
    """Name a model by the outermost thing that holds its parameters and no others."""
    first = members[0]
    top = _top(first)
    if alone and not first.bare:
        return Unit(None, top).name
    path = first.path
    for unit in members[1:]:
        size = 0
        for one, two in zip(path, unit.path, strict=False):
            if one != two:
                break
            size += 1
        path = path[:size]
    if not path or path == ("self",):
        return first.name
    others = [unit.path for unit in units if unit not in members]
    while not first.bare and len(path) > len(top) + 1:
        around = path[:-1]
        if any(other[: len(around)] == around for other in others):
            break
        path = around
    return Unit(None, path).name


# --- losses -------------------------------------------------------------------------------------


def _name_losses(story: Story) -> None:
    known: dict[tuple[object, ...], str] = {}
    taken: dict[str, int] = {}
    for event in story.backwards:
        identity = (event.site, event.stack, event.turns, event.name)
        name = known.get(identity)
        if name is None:
            number = taken[event.name] = taken.get(event.name, 0) + 1
            name = event.name if number == 1 else f"{event.name} ({event.site.row})"
            if name in known.values():
                name = f"{event.name} ({event.site.row}, {number})"
            known[identity] = name
        story.losses[id(event)] = name


# --- events -------------------------------------------------------------------------------------


def _translate(story: Story) -> None:
    shared = _shared_names(story)
    for event in story.run.events:
        match event:
            case BackwardAt():
                made = _backward(story, event, story.losses[id(event)], None)
                story.events.append((made, event))
                story.terms[id(made)] = tuple(_terms(story, event, shared))
            case ClearAt():
                cleared = {story.of_unit[u].account for u in event.units if u in story.of_unit}
                if cleared:
                    clear = Clear(frozenset(cleared), place(event.site))
                    story.events.append((clear, event))
            case StepAt():
                held = {
                    story.of_unit[u].account for u in event.optimizer.units if u in story.of_unit
                }
                spend = Spend(story.name(event.optimizer), frozenset(held), place(event.site))
                story.events.append((spend, event))
            case WriteAt():
                continue
            case _:
                story.events.append((Restart(), None))


def _terms(story: Story, event: BackwardAt, shared: set[str]) -> Iterator[Backward]:
    """Tell the summands of a joint loss, each by a name that no other loss has a summand of."""
    if len(event.loss.terms) < 2:
        return
    for number, term in enumerate(event.loss.terms, 1):
        flow = {unit: arrival for unit, arrival in term.flow.items() if unit in event.flow}
        name = term.name
        if not name or name in shared:
            name = f"{name or f'term {number}'} of {story.losses[id(event)]}"
        yield _backward(story, event, name, flow)


def _shared_names(story: Story) -> set[str]:
    """Return the names that summands of several losses have, and those of whole losses."""
    of_losses: dict[str, set[str]] = {}
    for event in story.backwards:
        for term in event.loss.terms:
            of_losses.setdefault(term.name, set()).add(story.losses[id(event)])
    shared = {name for name, losses in of_losses.items() if len(losses) > 1}
    return shared | set(story.losses.values())


def _backward(story: Story, event: BackwardAt, name: str, flow: Flow | None) -> Backward:
    reached = story.reached(event, flow)
    behind: dict[Model, set[Account]] = {}
    groups: dict[int, set[Account]] = {}
    for model, arrivals in reached.items():
        below = {
            story.of_unit[unit].account
            for arrival in arrivals
            for unit in arrival.behind
            if unit in story.of_unit
        }
        behind[model] = below
        for optimizer in model.holders:
            groups.setdefault(id(optimizer), set()).update(below)
    deposits = []
    for model, arrivals in reached.items():
        group = (groups[id(optimizer)] for optimizer in model.holders)
        below = behind[model].union(*group) - {model.account}
        deposits.append(
            Deposit(
                model.account,
                frozenset(below),
                all(arrival.sure for arrival in arrivals) and model.sure,
                _holder(model),
                _evidence(story, event, model, arrivals, name),
            )
        )
    return Backward(
        name,
        tuple(deposits),
        place(event.site),
        blind=event.loss.hidden != Hidden.NOTHING,
    )


def _holder(model: Model) -> Holder:
    if model.holders:
        return Holder.OPTIMIZER
    return Holder.SHADOW if model.shadow else Holder.NOBODY


def _evidence(
    story: Story, event: BackwardAt, model: Model, arrivals: list[Arrival], name: str
) -> Evidence:
    arrival = max(arrivals, key=lambda one: (one.enters is not None, one.made is not None))
    steps = []
    if arrival.made is not None:
        text = f"output of `{model.name}`, carries gradient"
        steps.append(TraceStep(place(arrival.made), text))
    if arrival.enters is not None and arrival.enters != arrival.made:
        steps.append(TraceStep(place(arrival.enters), "enters the next model here"))
    steps.append(TraceStep(place(event.site), f"`{name}` runs backward and reaches `{model.name}`"))
    where, enters = event.site, arrival.enters
    if enters is not None and (beside(story, enters, where) or _apart(enters, event)):
        where = enters
    return Evidence(tuple(steps), None, place(where))


def _apart(enters: Site, event: BackwardAt) -> bool:
    """Say whether a loss is put together in a file of its own, for whoever trains the models."""
    made = event.loss.site
    return made is not None and made.filename == enters.filename != event.site.filename


def outward(story: Story, site: Site, stack: Sequence[Site]) -> Site:
    """Return the call that leads to a site from where losses run backward, or the site itself."""
    for one in (site, *reversed(stack)):
        if any(beside(story, one, event.site) for event in story.backwards):
            return one
    return site


def beside(story: Story, one: Site, two: Site) -> bool:
    """Say whether two sites are in the same function."""
    if one.filename != two.filename:
        return False
    for start, end in story.run.project.file(Path(one.filename)).spans:
        if (start <= one.row <= end) != (start <= two.row <= end):
            return False
    return True

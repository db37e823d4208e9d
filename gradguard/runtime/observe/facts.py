"""Findings that need no policy: optimizers wired wrongly, freezes that fail, graphs cut off."""

from __future__ import annotations

import ast
import itertools
import linecache
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import nn

from gradguard.core.codes import code
from gradguard.core.columns import place_of, span_of
from gradguard.core.events import Backward, Clear, Event, Spend
from gradguard.core.findings import Finding, Place, Severity, TraceStep
from gradguard.runtime.observe.causes import Facts
from gradguard.runtime.observe.census import bits, place_of_program

if TYPE_CHECKING:
    from gradguard.runtime.observe.story import _Teller

__all__ = ["facts"]


def facts(told: _Teller, turns: list[list[Event]]) -> Facts:
    """Return what the facts of a run betray by themselves."""
    found = list(_typos(told))
    found += _copied(told)
    found += _severed(told)
    found += _inside_graph(told)
    found += _overlapping(told)
    found += _shared(told, turns)
    found += _moved(told)
    unfed = {finding.loss: finding for finding in _unfed(told, turns) if finding.loss}
    found += unfed.values()
    if not unfed:
        found += list(_left_out(told)) or list(_replaced(told))
        found += _deaf(told)
    return Facts(found, unfed)


def _finding(
    number: str,
    message: str,
    place: Place,
    *,
    loss: str | None = None,
    model: str | None = None,
    trace: tuple[TraceStep, ...] = (),
    help: str | None = None,  # noqa: A002
    severity: Severity | None = None,
) -> Finding:
    entry = code(number)
    return Finding(
        entry.code, entry.name, severity or entry.severity, message, place, loss, model, trace, help
    )


def _made(told: _Teller, number: int) -> Place | None:
    made = told.census.optimizers[number].made
    return place_of_program(made) if made is not None else None


def _typos(told: _Teller) -> Iterator[Finding]:
    files = {p.where.place.filename for p in told.passages}
    files |= {code_.co_filename for p in told.passages for code_, _ in p.where.stack}
    for typo in told.seen.oddities.typos.values():
        if not typo.mask & told.reached:
            continue
        place = next((p for f in sorted(files) for p in _assigned(f, typo.attribute)), None)
        if place is None:
            continue
        model = told.name_of(typo.mask)
        yield _finding(
            "GG401",
            f"`{typo.attribute} = False` freezes nothing: `{model}` is trained",
            place,
            model=model,
            help="`requires_grad_(False)` on the module, or `requires_grad = False` on parameters",
        )


def _assigned(filename: str, attribute: str) -> Iterator[Place]:
    text = "".join(linecache.getlines(filename))
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if (
                    isinstance(target, ast.Attribute)
                    and target.attr == attribute
                    and not (isinstance(target.value, ast.Name) and target.value.id == "self")
                ):
                    yield place_of(filename, span_of(node))
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "setattr"
            and any(isinstance(a, ast.Constant) and a.value == attribute for a in node.args)
        ):
            yield place_of(filename, span_of(node))


def _copied(told: _Teller) -> Iterator[Finding]:
    copied = told.seen.oddities.copied
    for target, source, optimizer in copied.values():
        if any(other != target.mask and other & target.mask == target.mask for other in copied):
            continue
        for passage in told.passages:
            if passage.live & target.mask and passage.live & source.mask:
                model = told.name_of(target.mask) if not target.names else target.names[0]
                yield _finding(
                    "GG104",
                    f"`{told.names[passage.number]}` trains `{model}`, a copy that is also "
                    f"written from `{told.name_of(source.mask)}` between steps",
                    _made(told, optimizer) or place_of_program(passage.where),
                    loss=told.names[passage.number],
                    model=model,
                    trace=(TraceStep(place_of_program(passage.where), f"reaches `{model}`"),),
                    help=f"leave `{model}` out of the optimizer, and freeze it",
                )
                break


def _severed(told: _Teller) -> Iterator[Finding]:
    for passage in told.seen.oddities.severed:
        loss = told.names[passage.number]
        yield _finding(
            "GG302",
            f"the graph of `{loss}` ends at once: no model receives gradient",
            place_of_program(passage.where),
            loss=loss,
            help="compute the loss from the models' outputs without `.item()`, NumPy or "
            "`torch.tensor(...)`",
        )


def _inside_graph(told: _Teller) -> Iterator[Finding]:
    from gradguard.runtime.names import loss_names

    for where, _ in told.seen.oddities.stale[:1]:
        loss = next(iter(loss_names(where)), "loss")
        yield _finding(
            "GG205",
            f"an optimizer stepped between the forward and the backward of `{loss}`",
            place_of_program(where),
            loss=loss,
            help="run the forward again after the step, or step after all backward passes",
        )


def _fed_steps(told: _Teller) -> list[tuple[int, int]]:
    """Return the steps in order: whose each is, and the parameters in which it finds something."""
    steps: list[tuple[int, int]] = []
    for turn, count in told.seen.tape.story():
        found = [(h.number, h.mask) for h in turn or () if h.what.value == "step"]
        steps += found * min(count, 3)
    return steps


def _overlapping(told: _Teller) -> Iterator[Finding]:
    steps = _fed_steps(told)
    held = told.census.optimizers
    for one in range(len(held)):
        for other in range(one + 1, len(held)):
            common = held[one].mask & held[other].mask & told.reached
            if not common or held[one].groups & held[other].groups:
                continue
            turns = [n for n, fed in steps if n in (one, other) and fed & common]
            changes = sum(a != b for a, b in itertools.pairwise(turns))
            if changes < 2:
                continue
            moved = 0
            for n, fed in steps:
                moved |= fed & common if n in (one, other) else 0
            model = told.name_of(moved)
            first, second = told._optimizer(one), told._optimizer(other)
            place = _made(told, other) or _made(told, one)
            if place is not None:
                yield _finding(
                    "GG202",
                    f"`{model}` is in two optimizers that both step it: `{first}` and `{second}`",
                    place,
                    model=model,
                    help=f"leave `{model}` out of one of them",
                )


def _shared(told: _Teller, turns: list[list[Event]]) -> Iterator[Finding]:
    """One optimizer steps after two losses in turn, one of which only passes through."""
    alone: dict[str, dict[str, Backward]] = {}
    places: dict[str, Place] = {}
    for turn in turns:
        backwards = [e for e in turn if isinstance(e, Backward)]
        steps = [e for e in turn if isinstance(e, Spend)]
        clears = [e for e in turn if isinstance(e, Clear)]
        if len({b.loss for b in backwards}) == 1 and len(steps) == 1 and clears:
            alone.setdefault(steps[0].optimizer, {})[backwards[-1].loss] = backwards[-1]
            places[steps[0].optimizer] = steps[0].place
    done: set[tuple[str, str]] = set()
    for optimizer, losses in alone.items():
        for direct in losses.values():
            reached = {d.account for d in direct.deposits}
            if not reached:
                continue
            for through in losses.values():
                theirs = {d.account for d in through.deposits}
                if through is direct or not reached < theirs:
                    continue
                beyond = theirs - reached
                part = _whole(told, through.loss)
                if part is None:
                    continue
                own = _mask(told, reached)
                # What it does not step, another optimizer may: then this is a leak.
                theirs_alone = _mask(told, beyond) & _held_as(told, optimizer)
                behind = part.whole.below(own) & theirs_alone
                back = part.whole.below(theirs_alone) & own
                if behind and not back and (optimizer, through.loss) not in done:
                    done.add((optimizer, through.loss))
                    model = told.name_of(own)
                    yield _finding(
                        "GG201",
                        f"`{optimizer}` steps after `{direct.loss}` and after `{through.loss}`, "
                        f"which only passes through `{model}`",
                        places[optimizer],
                        loss=through.loss,
                        model=model,
                        trace=(TraceStep(through.place, f"`{through.loss}` runs backward"),),
                        help=f"give `{model}` an optimizer of its own",
                    )


def _whole(told: _Teller, loss: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
    return next((p for p in told.passages if told.names[p.number] == loss), None)


def _held_as(told: _Teller, name: str) -> int:
    every = enumerate(told.census.optimizers)
    return next((held.mask for n, held in every if told._optimizer(n) == name), 0)


def _mask(told: _Teller, accounts: object) -> int:
    mask = 0
    for own, account in told.atoms:
        if account in accounts:  # type: ignore[operator]
            mask |= own
    return mask


def _moved(told: _Teller) -> Iterator[Finding]:
    for (optimizer, where), mask in told.seen.oddities.moved.items():
        if not any(p.live & mask for p in told.passages):
            continue
        model = told.name_of(mask)
        name = told._optimizer(optimizer)
        yield _finding(
            "GG206",
            f"`{name}` moves `{model}` although no loss put gradient there",
            place_of_program(told.seen.places[where]),
            model=model,
            help=f"`{name}.zero_grad(set_to_none=True)`: an optimizer skips a gradient that is "
            "None, not one that is zero",
        )


def _unfed(told: _Teller, turns: list[list[Event]]) -> Iterator[Finding]:
    """Steps that a loss runs before and that receive nothing from it, nor from anything."""
    done: set[str] = set()
    tape = told.seen.tape
    for turn, happened, whole in zip(turns, tape.turns(), tape.whole, strict=True):
        if not whole:
            continue
        backwards = [e for e in turn if isinstance(e, Backward)]
        steps = [h for h in happened if h.what.value == "step"]
        if not backwards or not steps:
            continue
        held = 0
        for step in steps:
            held |= told.census.optimizers[step.number].mask
        arrives = 0
        blind = False
        for event in backwards:
            blind |= event.blind
        for h in happened:
            if h.what.value == "backward":
                arrives |= told.passages[h.number].whole.reach
        if blind or arrives & held or held & told.seen.oddities.fed_by_hand or not arrives:
            continue
        if not any(p.requires_grad for p in told.census.tensors(held)) and told.census.tensors(
            held
        ):
            continue
        event, step = backwards[-1], steps[-1]
        if event.loss in done:
            continue
        done.add(event.loss)
        optimizer = told._optimizer(step.number)
        model = told.name_of(held)
        other = any(h.steps and h.mask & arrives for h in told.census.optimizers)
        if other:
            yield _finding(
                "GG301",
                f"`{event.loss}` does not reach `{model}`, which `{optimizer}` steps after it",
                event.place,
                loss=event.loss,
                model=model,
                severity=Severity.WARNING,
                trace=(
                    TraceStep(event.place, f"no parameter of `{model}` receives gradient"),
                    TraceStep(
                        place_of_program(told.seen.places[step.where]),
                        f"steps `{model}` without gradient of `{event.loss}`",
                    ),
                ),
                help="look for `detach`, `.data`, `sample()` and `no_grad` on the way, or for "
                "optimizers that are exchanged",
            )
        else:
            yield _finding(
                "GG203",
                f"`{optimizer}` never receives gradient of `{event.loss}`, which reaches "
                f"`{told.name_of(arrives)}`, which no optimizer holds",
                event.place,
                loss=event.loss,
                model=model,
                severity=Severity.WARNING,
                trace=(TraceStep(event.place, f"`{event.loss}` runs backward"),),
                help="construct the optimizer from the parameters that the loss trains",
            )


def _replaced(told: _Teller) -> Iterator[Finding]:
    """Parameters that a loss reaches and no optimizer holds, while old ones are held."""
    if told.seen.oddities.fed_by_hand:
        return
    stray = told.reached & ~told.trained
    idle = told.trained & ~told.reached
    for branch in told.census.branches():
        if branch.bare or not branch.mask & stray or not branch.mask & told.trained:
            continue
        for number, held in enumerate(told.census.optimizers):
            mine = held.mask & idle
            if not held.steps or not mine or not held.mask & branch.mask:
                continue
            if any(p is not None and p.requires_grad for p in told.census.tensors(mine)) or not (
                told.census.tensors(mine)
            ):
                new = branch.mask & stray
                if len(list(bits(new))) < 1:
                    continue
                model = told.name_of(new)
                yield _finding(
                    "GG203",
                    f"`{model}` is trained by no optimizer: `{told._optimizer(number)}` holds "
                    "parameters that no loss reaches instead",
                    _made(told, number) or told.passages[0].where.place,
                    model=model,
                    severity=Severity.WARNING,
                    help=_HELD_BY_NOBODY,
                )
                return


def _left_out(told: _Teller) -> Iterator[Finding]:
    """Parts that came, or were unfrozen, when the optimizer of their model had been constructed."""
    if told.seen.oddities.fed_by_hand:
        return
    stray = told.reached & ~told.held
    if not stray:
        return
    unlisted = _unlisted(told, told.held)
    for number, one in enumerate(told.census.optimizers):
        place = _made(told, number)
        if not one.steps or one.known is None or place is None:
            continue
        early = (1 << one.known) - 1
        for root in told.census.branches():
            if root.bare or not root.mask & one.mask & early:
                continue
            reasons = {
                "came when the optimizer had been constructed": root.mask & stray & ~early,
                "was unfrozen when the optimizer had been constructed": root.mask
                & stray
                & one.frozen,
                "lies in a plain list or dictionary, where `parameters()` does not look": (
                    unlisted.get(id(root), 0) & stray
                ),
            }
            for reason, part in reasons.items():
                if not part or told.is_twin(part):
                    continue
                model = told.name_of(part)
                passage = next(p for p in told.passages if p.arrives & part)
                loss, name = told.names[passage.number], told._optimizer(number)
                yield _finding(
                    "GG203",
                    f"`{model}`, which `{loss}` reaches, is trained by no optimizer: it {reason}",
                    place_of_program(passage.where),
                    loss=loss,
                    model=model,
                    severity=Severity.WARNING,
                    trace=(
                        TraceStep(place, f"constructs `{name}`"),
                        TraceStep(place_of_program(passage.where), f"`{loss}` reaches `{model}`"),
                    ),
                    help=_HELD_BY_NOBODY,
                )
                return


_HELD_BY_NOBODY = "construct the optimizer after the model is complete, or `add_param_group`"


def _unlisted(told: _Teller, held: int) -> dict[int, int]:
    """Return what each trained module keeps in plain lists and dictionaries."""
    found: dict[int, int] = {}
    for branch in told.census.branches():
        module = branch.module() if branch.module is not None else None
        if module is None or not branch.mask & held:
            continue
        for key, value in vars(module).items():
            if key.startswith("_"):
                continue
            kept = list(value.values()) if type(value) is dict else value
            if not isinstance(kept, list | tuple):
                continue
            for one in kept[:256]:
                inner = told.census.branch(one) if isinstance(one, nn.Module) else None
                if inner is not None:
                    found[id(branch)] = found.get(id(branch), 0) | inner.mask
    return found


def _deaf(told: _Teller) -> Iterator[Finding]:
    """Models that are stepped, that are called only without a graph, and that no loss reaches."""
    if told.seen.oddities.fed_by_hand or any(p.blind for p in told.passages):
        return
    done = 0
    for branch in sorted(told.census.branches(), key=lambda b: -b.mask.bit_count()):
        mask = branch.mask
        if branch.bare or mask & done or mask & told.reached or mask & ~told.trained:
            continue
        done |= mask
        silent = branch.track.silent
        tensors = told.census.tensors(mask)
        if silent is None or branch.track.last is not None or not tensors:
            continue
        if not all(one.requires_grad for one in tensors):
            continue
        number = next(n for n, h in enumerate(told.census.optimizers) if h.steps and h.mask & mask)
        passage = next((p for p in told.passages if p.arrives & told.held_with(number)), None)
        if passage is None or told.is_twin(mask) or told.has_twin(branch):
            continue
        model = told.name_of(mask)
        loss, name = told.names[passage.number], told._optimizer(number)
        yield _finding(
            "GG301",
            f"`{loss}` does not reach `{model}`, which `{name}` holds: it is called without a "
            "graph",
            place_of_program(passage.where),
            loss=loss,
            model=model,
            severity=Severity.WARNING,
            trace=(
                TraceStep(place_of_program(silent), f"calls `{model}` under `no_grad`"),
                TraceStep(place_of_program(passage.where), f"`{loss}` runs backward"),
            ),
            help=f"look for `no_grad` and a checkpoint around it, or freeze `{model}`",
        )

"""What calls do of which nothing is known but what they are given, and what they are called."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradguard.lint.carry import gather, units_of
from gradguard.lint.run import Run
from gradguard.lint.values import (
    Arrival,
    Data,
    Dict,
    Function,
    Hidden,
    Instance,
    Optimizer,
    Seq,
    Site,
    Unit,
    Value,
)

__all__ = ["opaque"]

_LOSS = re.compile(r"loss|(?:^|_)cri(?:t|terion)?(?:_|$)|criterion|penalty|objective|diverg")
_CUTS = re.compile(
    r"numpy|item|detach|stop|sampl|round|argm|print|metric|acc(?!um)|eval|quant|index|mask|hash|"
    r"count|hard|label|env|buffer|replay|store|record|writ|reward|stat|reset|step|logg"
)


def opaque(
    run: Run,
    args: list[Value],
    kwargs: dict[str, Value],
    site: Site,
    name: str = "",
    *,
    direct: bool = False,
) -> Data:
    """Make what an unknown call returns: it may carry on whatever it was given.

    Args:
        run: The execution.
        args: What it was given.
        kwargs: What it was given by name.
        site: Where it is called.
        name: What the program calls what it calls.
        direct: True if that is an object of its own, as losses and layers are, not the method
            of something unknown.
    """
    given = [*args, *kwargs.values()]
    have = gather(given)
    low = name.lower()
    differentiable = _LOSS.search(low) is not None
    cutting = not differentiable and _CUTS.search(low) is not None
    sure = differentiable or (direct and not cutting)
    flow = {
        unit: arrival._replace(
            sure=sure and arrival.sure,
            likely=not cutting and (arrival.sure or arrival.likely),
            enters=arrival.enters or site,
        )
        for unit, arrival in have.flow.items()
    }
    hidden = have.hidden
    for value in given:
        for unit in _models_in(value):
            hidden = Hidden.SWALLOWED
            unit.escaped = True
            if unit.frozen is not True:
                flow.setdefault(unit, Arrival(frozenset(have.flow), site, None, sure=False))
        if isinstance(value, Optimizer):
            value.escaped = True
    made = run.data(site, flow, hidden)
    made.cuts = have.cuts
    made.unknown = True
    made.path = ()
    made.operands = ("opaque", tuple(given))
    return made


def _models_in(value: Value, depth: int = 2) -> Iterator[Unit]:
    match value:
        case Instance():
            yield from units_of(value)
        case Seq() if depth:
            for item in value.items:
                yield from _models_in(item, depth - 1)
        case Dict() if depth:
            for item in value.items.values():
                yield from _models_in(item, depth - 1)
        case Function() if isinstance(value.receiver, Instance):
            yield from units_of(value.receiver)
        case _:
            return

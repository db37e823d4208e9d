"""GG101 and GG103 inside a joint loss: two terms keep two models apart, a third does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gradguard.core.findings import Finding, Severity
from gradguard.lint.checks._common import finding
from gradguard.lint.run import BackwardAt
from gradguard.lint.story import Story
from gradguard.lint.values import Data, Unit

__all__ = ["check"]


def check(story: Story) -> Iterator[Finding]:
    """Compare the terms of each joint loss."""
    reported: set[str] = set()
    for event in story.backwards:
        terms = [term for term in event.loss.terms if term.flow]
        if len(terms) < 3:
            continue
        for one, two in _mirrored(terms):
            for third in terms:
                name = third.name or story.losses[id(event)]
                if third is one or third is two or name in reported:
                    continue
                both = [_both(one, two, third), _both(two, one, third)]
                for unit in [unit for unit in both if unit is not None][:1]:
                    reported.add(name)
                    yield _found(story, event, third, unit, name)


def _mirrored(terms: list[Data]) -> Iterator[tuple[Data, Data]]:
    """Walk pairs of terms each of which trains what the other has detached."""
    for number, one in enumerate(terms):
        for two in terms[number + 1 :]:
            a, b = set(one.flow), set(two.flow)
            if not a & b and a & _detached(two) and b & _detached(one):
                yield one, two


def _detached(term: Data) -> set[Unit]:
    return {unit for unit, (_, how) in term.cuts.items() if how == "detach"}


def _both(one: Data, two: Data, third: Data) -> Unit | None:
    """Return what ``two`` trains and nothing lies behind, if ``third`` reaches it and ``one``'s."""
    if not any(unit in third.flow for unit in one.flow):
        return None
    for unit in two.flow:
        arrival = third.flow.get(unit)
        if arrival is None or not arrival.sure:
            continue
        alone = not arrival.behind and unit not in one.flow and unit in _last(two)
        if alone and any(u in one.flow for u in third.flow):
            return unit
    return None


def _last(term: Data) -> set[Unit]:
    return {unit for unit, arrival in term.flow.items() if not arrival.behind}


def _found(story: Story, event: BackwardAt, term: Data, unit: Unit, name: str) -> Finding:
    model = story.of_unit[unit].name if unit in story.of_unit else unit.name
    arrival = term.flow[unit]
    made = finding(
        "GG103",
        f"`{name}` reaches `{model}`, which the other terms keep apart from it",
        event.site,
        [
            (arrival.made, f"output of `{model}`, carries gradient"),
            (term.site, f"`{name}` is computed from it"),
            (event.site, f"applies it to `{model}`"),
        ],
        loss=name,
        model=model,
        help_text="let only `.detach()` of it into the sum",
    )
    return replace(made, severity=Severity.ERROR)

"""GG101 and GG103 inside a joint loss: two terms keep two models apart, a third does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gradguard.core.findings import Finding, Severity
from gradguard.lint.checks._common import finding
from gradguard.lint.run import BackwardAt
from gradguard.lint.story import Story, tokens
from gradguard.lint.values import Data, Unit

__all__ = ["check"]


def check(story: Story) -> Iterator[Finding]:
    """Compare the terms of each joint loss."""
    reported: set[str] = set()
    for event in story.backwards:
        terms = [term for term in event.loss.terms if term.flow]
        for one, two in _mirrored(terms):
            for term, other in ((one, two), (two, one)):
                if term.name and term.name not in reported and _exchanged(story, term, other):
                    reported.add(term.name)
                    yield _named_wrongly(story, event, term, other)
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


def _exchanged(story: Story, term: Data, other: Data) -> bool:
    """Say whether a term is called after the model that it holds fixed, not the one it trains."""
    words = tokens((term.name,)) - {"loss"}
    fixed = tokens(part for unit in other.flow for part in unit.path)
    trained = tokens(part for unit in term.flow for part in unit.path)
    return _alike(words, fixed) and not _alike(words, trained)


_ENOUGH = 4


def _alike(words: set[str], others: set[str]) -> bool:
    """Say whether two names have a word in common, or the beginning of one."""
    return any(
        word == other
        or (min(len(word), len(other)) >= _ENOUGH and word[:_ENOUGH] == other[:_ENOUGH])
        for word in words
        for other in others
    )


def _named_wrongly(story: Story, event: BackwardAt, term: Data, other: Data) -> Finding:
    trained, fixed = next(iter(term.flow)), next(iter(other.flow))
    model = story.of_unit[trained].name if trained in story.of_unit else trained.name
    made = finding(
        "GG103",
        f"`{term.name}` trains `{model}` and holds `{fixed.name}` fixed, as `{other.name}` should",
        event.site,
        [
            (term.site, f"`{term.name}` is computed here, with `{fixed.name}` detached"),
            (event.site, f"and reaches `{model}`"),
        ],
        loss=term.name,
        model=model,
        help_text="are the two `.detach()` exchanged?",
    )
    return replace(made, severity=Severity.ERROR)


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

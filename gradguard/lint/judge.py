"""What an execution comes to: the ledger's findings, and those of the checks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gradguard.core.events import Backward
from gradguard.core.findings import Confidence, Finding, Severity
from gradguard.core.inference import infer
from gradguard.core.judgement import Kind
from gradguard.core.ledger import Ledger
from gradguard.core.policy import Policy, Rule, Stance
from gradguard.lint.adversaries import adversaries
from gradguard.lint.checks import all_checks
from gradguard.lint.checks._common import compared, operations, windows
from gradguard.lint.contract import Contract
from gradguard.lint.run import BackwardAt
from gradguard.lint.story import Model, Story
from gradguard.lint.values import Hidden

__all__ = ["deduced", "intent", "judge"]


def judge(story: Story, declared: Policy | None = None) -> Iterator[Finding]:
    """Judge an execution.

    Args:
        story: What it did.
        declared: What the project declares that losses may train.
    """
    if not story.run.events and not story.run.oddities:
        return
    policy = intent(story, declared)
    checked = [finding for check in all_checks() for finding in check(story)]
    found = [one for one in deduced(story, policy) if not _follows(one, checked)]
    yield from found
    for finding in checked:
        if not _told(finding, found):
            yield finding


def _follows(finding: Finding, checked: list[Finding]) -> bool:
    """Say whether what the ledger found follows from what a check explains.

    What a starved or severed loss still reaches is a consequence of the same mistake.
    """
    reach = finding.code in ("GG101", "GG103", "GG104")
    for one in checked:
        if reach and one.code in ("GG301", "GG302", "GG303") and one.loss == finding.loss:
            return True
        if (one.loss, one.model) != (finding.loss, finding.model):
            continue
        if one.code == "GG401" or (reach and one.code in ("GG203", "GG204")):
            return True
    return False


def _told(finding: Finding, found: list[Finding]) -> bool:
    """Say whether the ledger has reported the deposit that a check is about."""
    return finding.code in ("GG105", "GG107") and any(
        other.loss == finding.loss and other.severity is not Severity.INFO for other in found
    )


def intent(story: Story, declared: Policy | None = None) -> Policy:
    """Return what each loss may train: as declared, or else as inferred."""
    inferred = infer((event for event, _ in story.events), lambda e: story.terms.get(id(e), ()))
    rules: dict[str, Rule] = dict(inferred.rules)
    for loss, models in adversaries(story).items():
        rules[loss] = Rule(only=frozenset(), may=models)
    for event in story.backwards:
        contract = event.rule
        if isinstance(contract, Contract):
            rule = _contracted(story, event, contract)
            if rule is not None:
                rules[story.losses[id(event)]] = rule
    if declared is not None:
        for event in story.backwards:
            name = story.losses[id(event)]
            rule = declared.rule(event.name)
            if rule is not None:
                rules[name] = rule
    return Policy(rules)


def _contracted(story: Story, event: BackwardAt, contract: Contract) -> Rule | None:
    """Return what the source declares for a backward pass, in the names of the story."""
    if contract.only is not None:
        allowed = {m.name for m in story.models if all(u in contract.only for u in m.units)}
        return Rule(only=frozenset(), may=frozenset(allowed))
    rule = contract.policy.rule(contract.loss or event.name) if contract.policy else None
    if rule is None:
        return None
    by_stance: dict[Stance, set[str]] = {stance: set() for stance in Stance}
    for model in story.models:
        owners = [
            name
            for name, units in (contract.models or {}).items()
            if all(unit in units for unit in model.units)
        ]
        if owners:
            by_stance[rule.stance(owners)[0]].add(model.name)
    return Rule(
        only=frozenset() if rule.only is not None else None,
        must=frozenset(by_stance[Stance.MUST]),
        may=frozenset(by_stance[Stance.MAY] - by_stance[Stance.MUST]),
        never=frozenset(by_stance[Stance.NEVER] - by_stance[Stance.MUST] - by_stance[Stance.MAY]),
    )


def deduced(story: Story, policy: Policy) -> Iterator[Finding]:
    """Return what the ledger concludes from an execution, without the checks."""
    models = [model.account.owners[0] for model in story.models]
    ledger = Ledger(policy, list(dict.fromkeys(models)))
    unsure: set[tuple[str | None, str | None]] = set()
    for event, _ in story.events:
        ledger.post(event)
        terms = story.terms.get(id(event), ())
        for term in terms:
            if term.loss in policy.rules:
                ledger.post(term, joint=True)
        for one in (event, *terms):
            if isinstance(one, Backward):
                unsure |= {
                    (one.loss, deposit.account.owners[0])
                    for deposit in one.deposits
                    if not deposit.sure
                }
    unsure |= set(_unseen(story, policy))
    by_name = {model.name: model for model in story.models}
    fitted = set(_fitted(story))
    spilled = {
        (loss, account.owners[0])
        for loss, reached in ledger.seen.items()
        for account, kind in reached.items()
        if kind is Kind.SPILL
    }
    for finding in ledger.findings:
        confidence = _confidence(story, finding, by_name, unsure)
        if (finding.loss, finding.model) in fitted & spilled:
            confidence = Confidence.LOW
        yield replace(finding, confidence=confidence, count=1)


def _unseen(story: Story, policy: Policy) -> Iterator[tuple[str, str]]:
    """Walk losses that reach what they train inside of a call only, and what they reach besides.

    Where the call of a discriminator is out of sight, so is the `detach` before it.
    """
    for event in story.backwards:
        name = story.losses[id(event)]
        rule = policy.rules.get(name)
        if event.loss.hidden == Hidden.NOTHING or rule is None or rule.never:
            continue
        reached = story.reached(event)
        others = [model.account.owners for model in reached if model.holders]
        if len(others) == len(reached) and all(rule.stance(o)[0] is Stance.NEVER for o in others):
            for model, arrivals in reached.items():
                if any(arrival.enters is not None for arrival in arrivals):
                    yield name, model.account.owners[0]


def _fitted(story: Story) -> Iterator[tuple[str, str]]:
    """Walk losses that step together with others, and models whose output they compare with data.

    A generator's loss only passes through the critic; the loss of a reconstruction, which is of
    the same shape, means the decoder as well as the encoder behind it.
    """
    for window in windows(story):
        if len({story.losses[id(event)] for event in window.backwards}) < 2:
            continue
        for event in window.backwards:
            for operation, inputs, _ in operations(event.loss):
                for unit in compared(operation, inputs):
                    if unit in story.of_unit:
                        yield story.losses[id(event)], story.of_unit[unit].name


def _confidence(
    story: Story,
    finding: Finding,
    models: dict[str, Model],
    unsure: set[tuple[str | None, str | None]],
) -> Confidence:
    if (finding.loss, finding.model) in unsure:
        return Confidence.LOW
    model = models.get(finding.model or "")
    if model is None:
        return Confidence.LOW
    if finding.code == "GG204":
        # What is cleared tensor by tensor may be this model.
        cleared = any(kind == "unknown gradient set" for kind, _, _ in story.run.oddities)
        return Confidence.LOW if cleared else Confidence.HIGH
    if finding.code == "GG101" and not model.holders:
        # That no optimizer holds it is a claim of absence; only a copy is known to be none's.
        elsewhere = all(unit.opaque and unit.path in story.elsewhere for unit in model.units)
        return Confidence.MEDIUM if elsewhere else Confidence.LOW
    return Confidence.HIGH

"""What an execution comes to: the ledger's findings, and those of the checks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gradguard.core.events import Backward, Event
from gradguard.core.findings import Confidence, Finding, Severity
from gradguard.core.inference import infer
from gradguard.core.ledger import Ledger
from gradguard.core.policy import Policy, Rule
from gradguard.lint.checks import all_checks
from gradguard.lint.story import Model, Story

__all__ = ["judge"]


def judge(story: Story, declared: Policy | None = None) -> Iterator[Finding]:
    """Judge an execution.

    Args:
        story: What it did.
        declared: What the project declares that losses may train.
    """
    if not story.run.events and not story.run.oddities:
        return
    policy = _policy(story, declared)
    found = list(_ledger(story, policy))
    yield from found
    for check in all_checks():
        for finding in check(story):
            if not _told(finding, found):
                yield finding


def _told(finding: Finding, found: list[Finding]) -> bool:
    """Say whether the ledger has reported the deposit that a check is about."""
    return finding.code in ("GG105", "GG106", "GG107") and any(
        other.loss == finding.loss and other.severity is not Severity.INFO for other in found
    )


def _policy(story: Story, declared: Policy | None) -> Policy:
    inferred = infer(event for event, _ in story.events)
    rules: dict[str, Rule] = dict(inferred.rules)
    if declared is not None:
        for event in story.backwards:
            name = story.losses[id(event)]
            rule = declared.rule(event.name)
            if rule is not None:
                rules[name] = rule
    return Policy(rules)


def _ledger(story: Story, policy: Policy) -> Iterator[Finding]:
    models = [model.account.owners[0] for model in story.models]
    ledger = Ledger(policy, list(dict.fromkeys(models)))
    unsure: set[tuple[str | None, str | None]] = set()
    for event, _ in story.events:
        ledger.post(_judgeable(event))
        if isinstance(event, Backward):
            unsure |= {
                (event.loss, deposit.account.owners[0])
                for deposit in event.deposits
                if not deposit.sure
            }
    by_name = {model.name: model for model in story.models}
    for finding in ledger.findings:
        confidence = _confidence(story, finding, by_name, unsure)
        yield replace(finding, confidence=confidence, count=1)


def _judgeable(event: Event) -> Event:
    return event


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
    if finding.code == "GG101" and not model.holders:
        # That no optimizer holds it is a claim of absence; only a copy is known to be none's.
        return Confidence.LOW
    return Confidence.HIGH

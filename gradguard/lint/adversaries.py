"""Losses of adversaries: called after the optimizer that is theirs, beside others that are too."""

from __future__ import annotations

from gradguard.lint.checks._common import Window, windows
from gradguard.lint.story import Story, tokens
from gradguard.lint.values import Optimizer

__all__ = ["adversaries"]

_ADVERSARIES = frozenset(
    ["d", "dis", "disc", "discriminator", "netd", "critic", "adversary", "adversarial", "adv"]
)


def adversaries(story: Story) -> dict[str, frozenset[str]]:
    """Return what the losses of adversaries train where order alone does not tell.

    Where several losses run backward before several optimizers step, reach cannot tell a
    discriminator's loss that should have been cut off from the loss of an autoencoder, which
    means what lies behind the decoder. If every loss is called after one of the optimizers, the
    one called after an adversary trains the adversary alone.
    """
    found: dict[str, frozenset[str]] = {}
    for window in windows(story):
        for loss, optimizer in _called_after(story, window).items():
            held = (m.name for m in story.models if all(u in optimizer.units for u in m.units))
            found[loss] = found.get(loss, frozenset()) | frozenset(held)
    return found


def _called_after(story: Story, window: Window) -> dict[str, Optimizer]:
    optimizers = list({id(step.optimizer): step.optimizer for step in window.steps}.values())
    losses = {story.losses[id(event)]: tokens([event.name]) for event in window.backwards}
    if len(losses) < 2 or len(losses) != len(optimizers):
        return {}
    matched: dict[str, Optimizer] = {}
    for loss, words in losses.items():
        fitting = [one for one in optimizers if words & tokens(one.path[-1:])]
        if len(fitting) != 1:
            return {}
        matched[loss] = fitting[0]
    if len({id(optimizer) for optimizer in matched.values()}) != len(optimizers):
        return {}
    return {
        loss: optimizer
        for loss, optimizer in matched.items()
        if losses[loss] & tokens(optimizer.path[-1:]) & _ADVERSARIES
    }

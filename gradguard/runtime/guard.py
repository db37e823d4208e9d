"""Guards: contexts in which every backward and every step is held to a policy."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from torch import Tensor

from gradguard.core.codes import code
from gradguard.core.findings import Finding
from gradguard.core.flow import FlowMatrix, matrix_of
from gradguard.core.ledger import Ledger
from gradguard.core.policy import Policy, PolicyError, Rule, Stance, suggestion
from gradguard.core.suppressions import unsilenced
from gradguard.runtime import monitor
from gradguard.runtime.filtering import backward_into, reached_leaves
from gradguard.runtime.models import named
from gradguard.runtime.names import argument_names
from gradguard.runtime.registry import Registry
from gradguard.runtime.sites import site
from gradguard.runtime.watch import Watch

__all__ = ["Guard", "only"]

OnViolation = Literal["raise", "warn", "record"]
_MODES = ("raise", "warn", "record")


class Guard:
    """Hold every backward and every optimizer step in a block to a policy.

    Entering installs what is needed and leaving removes it, however the block ends. A guard may be
    entered again after it was left, and guards nest; each judges by its own policy.

    Args:
        models: Models by name: a module, several, bare parameters, or a pattern over qualified
            parameter names such as ``"policy.*lora_*"``.
        policy: What each loss may train: a mapping, a :class:`~gradguard.Policy`, or a TOML file.
        on_violation: ``"raise"`` raises :class:`~gradguard.IsolationError`, a leak before any
            gradient is written, an applied one before any parameter moves; ``"warn"`` issues
            :class:`~gradguard.IsolationWarning` once a finding; ``"record"`` only keeps findings.
        every: Walk the graph at every n-th backward of each call site.
        strict: Make a backward that the policy does not speak of an error.

    Raises:
        PolicyError: If the policy cannot be read, contradicts itself or names an unknown model.
        ValueError: If a model has no parameters or an option is out of range.
        TypeError: If a model is none of what is accepted.

    Example:
        >>> import torch, gradguard
        >>> critic, generator = torch.nn.Linear(2, 1), torch.nn.Linear(3, 2)
        >>> guard = gradguard.Guard(
        ...     {"critic": critic, "generator": generator}, {"critic_loss": "critic"}
        ... )
        >>> with guard:
        ...     fake = generator(torch.randn(4, 3))
        ...     critic_loss = critic(fake.detach()).mean()
        ...     critic_loss.backward()
        >>> guard.findings
        []
    """

    def __init__(
        self,
        models: Mapping[str, Any],
        policy: Policy | Mapping[str, Any] | str | Path,
        *,
        on_violation: OnViolation = "raise",
        every: int = 1,
        strict: bool = False,
    ) -> None:
        """Check models and policy; nothing is installed yet."""
        named(models)
        if on_violation not in _MODES:
            raise ValueError(
                f"on_violation={on_violation!r}{suggestion(str(on_violation), _MODES)}; "
                "it is one of 'raise', 'warn', 'record'"
            )
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise ValueError(
                f"every={every!r}; it counts backwards, so it is a whole number from 1"
            )
        if strict not in (True, False):
            raise ValueError(f"strict={strict!r}; it is True or False")
        parsed = (
            Policy.from_toml(policy) if isinstance(policy, str | Path) else Policy.parse(policy)
        )
        if not len(parsed):
            raise PolicyError('the policy is empty; write for instance {"critic_loss": "critic"}')
        parsed.validate(list(models))
        self._watch = Watch(
            Registry(models), parsed, on_violation=on_violation, every=every, strict=strict
        )
        self._active = False

    @property
    def policy(self) -> Policy:
        """The policy that the guard holds to."""
        return self._watch.policy

    @property
    def ledger(self) -> Ledger:
        """The ledger with all that was seen, findings that are off by default included."""
        return self._watch.ledger

    @property
    def findings(self) -> list[Finding]:
        """What was found so far.

        Codes that are off by default, such as GG102, are left out, and what a comment silences.
        """
        return unsilenced(f for f in self.ledger.findings if code(f.code).on_by_default)

    @property
    def flow(self) -> FlowMatrix:
        """Which loss has reached which model so far."""
        return matrix_of(self.ledger, self._watch.registry.models, self._watch.zero)

    def __enter__(self) -> Self:
        """Install the guard.

        Raises:
            RuntimeError: If it is active already.
        """
        if self._active:
            raise RuntimeError("this guard is active already; enter it again after it was left")
        self._watch.begin()
        monitor.attach(self._watch)
        self._active = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the guard, and judge what no step has judged, unless an error is on its way."""
        outermost = monitor.active()[:1] == (self._watch,)
        monitor.detach(self._watch)
        self._active = False
        self._watch.leave()
        if error is not None:
            _explain(error)
        elif outermost:
            self._watch.end()

    @contextmanager
    def loss(self, name: str) -> Iterator[None]:
        """Name every backward of this thread inside the block.

        Raises:
            PolicyError: If the policy does not speak of ``name``.
        """
        self._known(name)
        with self._watch.losses.named(name):
            yield

    def watch(self, losses: Mapping[str, Tensor] | None = None, /, **named: Tensor) -> None:
        """Name losses by tensor, so that one backward of their sum is attributed to each.

        Args:
            losses: Tensors by name, for names that are no identifiers.
            **named: The same as keywords.

        Raises:
            PolicyError: If the policy does not speak of a name.
            TypeError: If a value is no tensor.
        """
        if losses is not None and not isinstance(losses, Mapping):
            raise TypeError(
                f"losses is a {type(losses).__name__}; name each, as in "
                "`guard.watch(critic_loss=critic_loss)`"
            )
        every = {**(losses or {}), **named}
        for name, tensor in every.items():
            self._known(name)
            if not isinstance(tensor, Tensor):
                raise TypeError(f"`{name}` is a {type(tensor).__name__}, not a tensor")
        self._watch.losses.watch(every)

    def backward(
        self,
        loss: Tensor,
        name: str,
        *,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
    ) -> None:
        """Run a named loss backward into the models that its rule allows, and no others.

        Gradients of the other models are neither computed nor written.

        Args:
            loss: The loss, a scalar unless ``gradient`` is given.
            name: What the policy calls it.
            gradient: The gradient to start with, of the shape of ``loss``.
            retain_graph: As for :func:`torch.autograd.backward`.
            create_graph: As for :func:`torch.autograd.backward`.

        Raises:
            PolicyError: If the policy does not speak of ``name``.
            IsolationError: GG301, before anything is written, if nothing allowed is reached.
            RuntimeError: If the loss has no graph, or a reentrant checkpoint lies on the way.
        """
        rule = self._known(name)
        registry = self._watch.registry

        def allowed(leaf: Tensor) -> bool:
            index = registry.index(leaf)
            if index is None:
                return False
            return rule.stance(registry.account(index).owners)[0] is not Stance.NEVER

        registry.begin()
        into = f"what `{name}` may train"
        leaves = reached_leaves(loss, allowed, into, f"`{name}`", sys._getframe(1))
        with self._watch.losses.named(name):
            backward_into(loss, leaves, gradient, retain_graph, create_graph)

    def _known(self, name: str) -> Rule:
        if not isinstance(name, str):
            raise TypeError(
                f"a loss is named by text, not by a {type(name).__name__}; "
                f"its name is one of: {', '.join(map(repr, self.policy))}"
            )
        rule = self.policy.rule(name)
        if rule is None:
            known = ", ".join(f"`{loss}`" for loss in self.policy)
            raise PolicyError(
                f"the policy does not speak of `{name}`{suggestion(name, list(self.policy))}; "
                f"its losses are: {known}"
            )
        return rule

    def __repr__(self) -> str:
        """Show the models and the number of findings."""
        models = ", ".join(self._watch.registry.models)
        state = "active" if self._active else "not active"
        return f"<Guard of {models}: {state}, {len(self.findings)} findings>"


class only:  # noqa: N801  a context manager that reads as a word
    """Let any backward inside the block reach these models only.

    Other models are learned as they are called, and named as the program names them. If the
    forward ran before the block, the verdict comes from the parameters alone.

    Args:
        *models: Modules, parameters or collections of them.

    Raises:
        IsolationError: Before any gradient is written, if a backward inside would reach another
            model over a dead end; at the end, if none of them has reached one of ``models``.

    Example:
        >>> import torch, gradguard
        >>> critic, generator = torch.nn.Linear(2, 1), torch.nn.Linear(3, 2)
        >>> with gradguard.only(critic):
        ...     critic(generator(torch.randn(4, 3)).detach()).mean().backward()
    """

    def __init__(self, *models: Any) -> None:
        """Check the models; nothing is installed yet."""
        if not models:
            raise ValueError("name at least one model, such as `gradguard.only(critic)`")
        spelled = argument_names(site(sys._getframe(1)), len(models), "only")
        names = spelled or [type(model).__name__ for model in models]
        named: dict[str, Any] = {}
        for name, model in zip(names, models, strict=True):
            unique = name if name not in named else f"{name} ({len(named) + 1})"
            # What can be walked once only is needed at every entry.
            taken = list(model) if isinstance(model, Iterator) else None
            named[unique] = taken or model
        self._models = named
        self._watch: Watch | None = None

    def __enter__(self) -> Self:
        """Install the check."""
        if self._watch is not None:
            raise RuntimeError("this block is active already")
        # One loss may train one of several models: each must be reached by some loss, not by all.
        single = len(self._models) == 1
        names = frozenset(self._models)
        rule = Rule(only=names) if single else Rule(only=frozenset(), may=names)
        self._watch = Watch(
            Registry(self._models), Policy({"*": rule}), on_violation="raise", learn=True
        )
        self._watch.ledger.together = frozenset() if single else names
        monitor.attach(self._watch)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the check, and judge whether every model was reached."""
        watch, self._watch = self._watch, None
        if watch is None:
            return
        monitor.detach(watch)
        if error is not None:
            _explain(error)
        else:
            watch.end()


def _explain(error: BaseException) -> None:
    """Add to an error of autograd what helps against it; the error itself stays what it is."""
    if isinstance(error, RuntimeError) and "nference tensor" in str(error):
        error.add_note(
            "gradguard: a tensor made under inference_mode is used in a loss; make it under "
            "`torch.no_grad()` instead"
        )

"""The search for an input under which a training step breaks its policy."""

from __future__ import annotations

import copy
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from gradguard.core.findings import IsolationError
from gradguard.core.policy import Policy
from gradguard.runtime.bound import BoundGuard
from gradguard.runtime.registry import Registry
from gradguard.strategies import hypothesis_for

if TYPE_CHECKING:
    import hypothesis
    from hypothesis.strategies import SearchStrategy

__all__ = ["check_isolation"]

Given: TypeAlias = (
    "SearchStrategy[Any] | Sequence[SearchStrategy[Any]] | Mapping[str, SearchStrategy[Any]]"
)
_Call = tuple[tuple[Any, ...], dict[str, Any]]

_WIDTH = 88
"""Longer calls are shown with one argument a line."""


def check_isolation(
    step: Callable[..., Any],
    models: Mapping[str, Any],
    policy: Policy | Mapping[str, Any] | str | Path,
    given: Given | None = None,
    *,
    settings: hypothesis.settings | None = None,
) -> None:
    """Search for an input under which a training step breaks its policy.

    Some leaks need an input: an empty mask, a batch of one row, a branch that is seldom taken.
    The step is run under a guard on many inputs, always from the same state: parameters, buffers,
    gradients, modes, random numbers and the optimizers that step are put back after each run, and
    are at the end as they were. The simplest input that breaks the policy is what is reported.

    Inside a test of Hypothesis the input is drawn from that test's own data, once a call, so that
    the two searches are one.

    Args:
        step: Runs forward and backward, and the optimizers if it likes.
        models: Models by name, in any form that a guard takes.
        policy: What each loss may train, in any form that a guard takes.
        given: What the step is called with: a strategy for its only argument, a sequence of them
            for several, or a mapping for keywords. Without it the step is run once, as it is.
        settings: How to search; the settings of the active profile by default. Deadline, health
            checks and the database of examples are left out of account.

    Raises:
        IsolationError: With the findings for the simplest input; its notes show that input.
        PolicyError: If the policy cannot be read, contradicts itself or names an unknown model.
        TypeError: If ``given`` holds what is no strategy.
        ImportError: If ``given`` is used and Hypothesis is missing.

    Example:
        >>> import torch, gradguard
        >>> from gradguard import strategies
        >>> critic, generator = torch.nn.Linear(2, 1), torch.nn.Linear(3, 2)
        >>> def step(batch):
        ...     critic_loss = critic(generator(batch["z"]).detach()).mean()
        ...     critic_loss.backward()
        >>> gradguard.check_isolation(
        ...     step,
        ...     {"critic": critic, "generator": generator},
        ...     {"critic_loss": "critic"},
        ...     given=strategies.batches(z=(3,)),
        ... )
    """
    if not callable(step):
        raise TypeError(f"step is a {type(step).__name__}; it is what runs one step of training")
    trial = _Trial(step, models, policy)
    if given is None:
        trial.run(((), {}))
        return
    hypothesis = hypothesis_for("check_isolation")
    strategy = _calls(hypothesis.strategies, given)
    try:
        if hypothesis.currently_in_test_context():
            from hypothesis.control import current_build_context

            trial.run(current_build_context().data.draw(strategy))
        else:
            _search(hypothesis, strategy, trial.run, settings)
    except Exception as error:
        if error is not trial.error:
            raise
        shown = _shown(getattr(step, "__name__", "step"), trial.call)
        if isinstance(error, IsolationError):
            told = IsolationError(error.findings)
            told.add_note(f"the simplest input that shows it:\n{shown}")
            raise told from None
        error.__notes__ = [*trial.notes, f"gradguard: the step itself fails with\n{shown}"]
        raise


class _Trial:
    """Runs a step under guard, each time from the same state.

    Attributes:
        error: What the last trial that failed raised.
        call: What the step was called with then.
        notes: What the error said of itself then.
    """

    def __init__(self, step: Callable[..., Any], models: Mapping[str, Any], policy: Any) -> None:
        # What is wrong with models and policy is no matter of any input.
        BoundGuard(models, policy)
        self._step, self._models, self._policy = step, models, policy
        self.error: Exception | None = None
        self.call: _Call = (), {}
        self.notes: list[str] = []

    def run(self, call: _Call) -> None:
        """Run the step once, and raise what was found."""
        try:
            self._run(call)
        except Exception as error:
            # An assumption that does not hold is Hypothesis' own business.
            if not type(error).__module__.startswith("hypothesis."):
                self.error, self.call = error, call
                self.notes = list(getattr(error, "__notes__", ()))
            raise

    def _run(self, call: _Call) -> None:
        args, kwargs = _fresh(call)
        with _restored(self._models):
            guard = BoundGuard(self._models, self._policy, on_violation="record").start()
            try:
                self._step(*args, **kwargs)
            except BaseException as error:
                guard.conclude(error)
                raise
            found = guard.conclude()
        if found:
            raise IsolationError(found)


def _search(
    hypothesis: Any,
    strategy: SearchStrategy[_Call],
    run: Callable[[_Call], None],
    settings: hypothesis.settings | None,
) -> None:
    """Run ``run`` on what ``strategy`` draws; the error of the simplest failure is raised."""
    base = settings or hypothesis.settings(verbosity=hypothesis.Verbosity.quiet)
    quiet = hypothesis.settings(
        base,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
        phases=[phase for phase in base.phases if phase is not hypothesis.Phase.explain],
    )

    def search(call: _Call) -> None:
        run(call)

    quiet(hypothesis.given(strategy)(search))()


def _calls(st: Any, given: Any) -> SearchStrategy[_Call]:
    """Join what is given for the arguments of a step to one strategy for its calls."""
    found: SearchStrategy[_Call]
    if isinstance(given, st.SearchStrategy):
        found = st.tuples(st.tuples(given), st.just({}))
    elif isinstance(given, Mapping):
        for name, strategy in given.items():
            _check(st, f"given[{name!r}]", strategy)
        found = st.tuples(st.just(()), st.fixed_dictionaries(dict(given)))
    elif isinstance(given, Sequence) and not isinstance(given, str):
        for number, strategy in enumerate(given):
            _check(st, f"given[{number}]", strategy)
        found = st.tuples(st.tuples(*given), st.just({}))
    else:
        _check(st, "given", given)
    return found


def _check(st: Any, name: str, strategy: Any) -> None:
    if not isinstance(strategy, st.SearchStrategy):
        raise TypeError(
            f"{name} is a {type(strategy).__name__}, not a strategy of Hypothesis, such as "
            "gradguard.strategies.batches(x=(3,))"
        )


def _fresh(value: Any) -> Any:
    """Copy the tensors of an input, so that a step that writes into them leaves it as drawn."""
    match value:
        case Tensor():
            return value.detach().clone().requires_grad_(value.requires_grad)
        case dict() if type(value) is dict:
            return {key: _fresh(inner) for key, inner in value.items()}
        case list() | tuple() if type(value) in (list, tuple):
            return type(value)(_fresh(inner) for inner in value)
    return value


@contextmanager
def _restored(models: Mapping[str, Any]) -> Iterator[None]:
    """Put back, at the end, what a training step changes."""
    state = _State()
    for model in Registry(models).models.values():
        for module in model.modules:
            state.keep_module(module)
        for parameter in model.parameters():
            state.keep_tensor(parameter)

    def keep(optimizer: Optimizer, *_: Any) -> None:
        state.keep_optimizer(optimizer)

    cards = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    hook = register_optimizer_step_pre_hook(keep)
    try:
        with torch.random.fork_rng(devices=list(cards)):
            yield
    finally:
        hook.remove()
        state.put_back()


class _State:
    """What a training step may change, as it was when it was first looked at."""

    def __init__(self) -> None:
        self._tensors: dict[int, tuple[Tensor, Tensor, Tensor | None, bool]] = {}
        self._modules: dict[int, tuple[nn.Module, bool, dict[str, Tensor]]] = {}
        self._optimizers: dict[int, tuple[Optimizer, dict[Any, Any], list[dict[str, Any]]]] = {}

    def keep_tensor(self, tensor: Tensor) -> None:
        if id(tensor) not in self._tensors:
            grad = None if tensor.grad is None else tensor.grad.detach().clone()
            kept = tensor.detach().clone(), grad, tensor.requires_grad
            self._tensors[id(tensor)] = (tensor, *kept)

    def keep_module(self, root: nn.Module) -> None:
        for module in root.modules():
            if id(module) not in self._modules:
                buffers = dict(module.named_buffers(recurse=False))
                self._modules[id(module)] = module, module.training, buffers
                for buffer in buffers.values():
                    self.keep_tensor(buffer)

    def keep_optimizer(self, optimizer: Optimizer) -> None:
        if id(optimizer) in self._optimizers:
            return
        groups = optimizer.param_groups
        for group in groups:
            for parameter in group["params"]:
                self.keep_tensor(parameter)
        options = [{key: group[key] for key in group if key != "params"} for group in groups]
        state = {key: copy.deepcopy(value) for key, value in optimizer.state.items()}
        self._optimizers[id(optimizer)] = optimizer, state, copy.deepcopy(options)

    def put_back(self) -> None:
        for module, training, buffers in self._modules.values():
            module.training = training
            for name, buffer in buffers.items():
                setattr(module, name, buffer)
        with torch.no_grad():
            for tensor, value, grad, trainable in self._tensors.values():
                tensor.copy_(value)
                tensor.grad = grad
                tensor.requires_grad_(trainable)
        for optimizer, state, options in self._optimizers.values():
            optimizer.state.clear()
            optimizer.state.update(state)
            for group, kept in zip(optimizer.param_groups, options, strict=False):
                group.update(kept)


def _shown(name: str, call: _Call) -> str:
    args, kwargs = call
    parts = [_text(arg) for arg in args] + [f"{key}={_text(arg)}" for key, arg in kwargs.items()]
    line = f"    {name}({', '.join(parts)})"
    if len(line) <= _WIDTH and "\n" not in line:
        return line
    inner = textwrap.indent("".join(f"{part},\n" for part in parts), " " * 8)
    return f"    {name}(\n{inner}    )"


def _text(value: Any) -> str:
    if type(value) is dict and any(isinstance(inner, Tensor) for inner in value.values()):
        return "{\n" + "".join(f"    {key!r}: {_text(v)},\n" for key, v in value.items()) + "}"
    return repr(value)

"""The process-wide taps: installed once however many guards are active, removed with the last.

Everything that runs backward passes ``torch.autograd._engine_run_backward``; optimizer steps pass
torch's global step hooks; clears pass the two ``zero_grad`` methods; models are called through
``nn.Module.__call__``. Nothing is put on any module, parameter, tensor or optimizer.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from gradguard.runtime.calls import Calls, here
from gradguard.runtime.graph import Graph, Node, roots_of
from gradguard.runtime.sites import Site, site

__all__ = ["Pass", "Watcher", "active", "attach", "detach", "rest", "run_engine"]


@dataclass(slots=True, eq=False)
class Pass:
    """One backward pass on its way to the engine.

    Attributes:
        outputs: The tensors or gradient edges that backward starts from.
        gradients: The gradients it starts with.
        create_graph: Whether the gradients carry a graph themselves.
        inputs: The leaves that alone receive gradient, if backward was told so.
        site: Where backward was called.
        frame: The frame of the call; valid before the engine runs only.
    """

    outputs: Sequence[Any]
    gradients: Sequence[Any]
    create_graph: bool
    inputs: tuple[Tensor, ...] | None
    site: Site
    frame: FrameType | None
    _roots: list[Node] | None = None
    _graph: Graph | None = None

    @property
    def roots(self) -> list[Node]:
        """The nodes that backward starts at."""
        if self._roots is None:
            self._roots = roots_of(self.outputs)
        return self._roots

    @property
    def graph(self) -> Graph:
        """The graph below the outputs, walked at the first use and shared by all guards."""
        if self._graph is None:
            self._graph = Graph(self.roots)
        return self._graph

    def release(self) -> None:
        """Let go of the graph and the frame, so that the pass prolongs nothing's life."""
        self._roots = self._graph = None
        self.frame = None


class Watcher(Protocol):
    """What is told of everything that happens to gradients.

    Attributes:
        calls: The calls that it has seen.
        observes: Whether it only looks on. Such a one is told after all others, so that it sees
            nothing that they refuse, and is in nobody's way.
    """

    calls: Calls
    observes: bool

    def before_backward(self, run: Pass) -> bool:
        """Be told that a backward pass is about to run; raise to refuse it.

        Returns:
            Whether to be told when it has run.
        """

    def after_backward(self, run: Pass, error: BaseException | None) -> None:
        """Be told that a backward pass has run, or failed."""

    @property
    def coasting(self) -> object:
        """True if some step under way must be looked at again afterwards."""

    def before_step(self, optimizer: Optimizer, frame: FrameType | None) -> None:
        """Be told that an optimizer is about to spend its gradients; raise to refuse it."""

    def after_step(self, optimizer: Optimizer) -> None:
        """Be told that an optimizer has stepped."""

    def cleared(self, holder: Optimizer | nn.Module) -> None:
        """Be told that a ``zero_grad`` has cleared the gradients of an optimizer or a module."""


_Tap = TypeVar("_Tap", bound=Callable[..., Any])

_lock = threading.RLock()
if hasattr(os, "register_at_fork"):
    # Another thread may hold it where a process forks, and no longer be there to let it go.
    os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]
_watchers: tuple[Watcher, ...] = ()
_resting = False
_undo: list[Callable[[], None]] = []
_DOOR = "_engine_run_backward"
_engine: Callable[..., Any] = getattr(torch.autograd, _DOOR)


def active() -> tuple[Watcher, ...]:
    """Return the watchers that are attached, the outermost first."""
    return _watchers


def attach(watcher: Watcher) -> None:
    """Attach a watcher, installing the taps with the first."""
    global _watchers
    with _lock:
        if not _watchers:
            _install()
        _watchers = tuple(sorted((*_watchers, watcher), key=lambda one: one.observes))
        _rest_if_all_do()


def detach(watcher: Watcher) -> None:
    """Detach a watcher, removing the taps with the last."""
    global _watchers
    with _lock:
        _watchers = tuple(other for other in _watchers if other is not watcher)
        _rest_if_all_do()
        if not _watchers:
            while _undo:
                _undo.pop()()


def rest(calls: Calls, *, resting: bool) -> None:
    """Say whether calls need no recording for the time being."""
    with _lock:
        calls.resting = resting
        _rest_if_all_do()


def _rest_if_all_do() -> None:
    global _resting
    _resting = bool(_watchers) and all(watcher.calls.resting for watcher in _watchers)


def run_engine(*args: Any, **kwargs: Any) -> Any:
    """Run the autograd engine past the tap."""
    return _engine(*args, **kwargs)


def _install() -> None:
    global _engine
    _engine = getattr(torch.autograd, _DOOR)
    _replace(torch.autograd, _DOOR, _untraced(_door(_engine)))
    _replace(nn.Module, "__call__", _call(nn.Module.__call__))
    _replace(Optimizer, "zero_grad", _untraced(_optimizer_zero_grad(Optimizer.zero_grad)))
    _replace(nn.Module, "zero_grad", _untraced(_module_zero_grad(nn.Module.zero_grad)))
    _undo.append(register_optimizer_step_pre_hook(_untraced(_before_step)).remove)
    _undo.append(register_optimizer_step_post_hook(_untraced(_after_step)).remove)


def _untraced(tap: _Tap) -> _Tap:
    """Keep Dynamo from tracing a tap, and what it calls, where a whole training step is compiled.

    A mark on the code object costs nothing at run time; a wrapper would cost 5 us a call.
    """
    try:
        from torch._C._dynamo import eval_frame

        skip = eval_frame._FrameAction.SKIP
        strategy = eval_frame._FrameExecStrategy(skip, skip)
        eval_frame.set_code_exec_strategy(tap.__code__, strategy)
        # The same for where Dynamo would inline the tap into a frame that it traces.
        vars(tap).update(_torchdynamo_disable=True, _torchdynamo_disable_msg=None)
    except (ImportError, AttributeError, TypeError):
        # Another version of torch: compiled steps are traced through the tap, others are fine.
        pass
    return tap


def _replace(holder: Any, name: str, tap: Any) -> None:
    original = holder.__dict__[name]
    setattr(holder, name, tap)

    def undo() -> None:
        if holder.__dict__.get(name) is tap:
            setattr(holder, name, original)
        else:
            warnings.warn(
                f"{name} was replaced while a guard was active and has been left as it is now",
                RuntimeWarning,
                stacklevel=2,
            )

    _undo.append(undo)


def _door(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def _engine_run_backward(outputs: Any, *args: Any, **kwargs: Any) -> Any:
        watchers = _watchers
        fills = kwargs.get("accumulate_grad", False)
        if not watchers or not fills or torch.compiler.is_compiling():
            return original(outputs, *args, **kwargs)
        if torch._C._current_graph_task_id() != -1:
            # The nested pass of a reentrant checkpoint belongs to the pass that runs it.
            return original(outputs, *args, **kwargs)
        gradients, _, create_graph, inputs = (*args, None, None, None, None)[:4]
        frame = sys._getframe(1)
        run = Pass(outputs, gradients or (), bool(create_graph), inputs or None, site(frame), frame)
        waiting: list[Watcher] = []
        try:
            with _lock:
                for watcher in watchers:
                    waiting.append(watcher)
                    if not watcher.before_backward(run):
                        waiting.pop()
            run.release()
            del frame
            result = original(outputs, *args, **kwargs)
        except BaseException as error:
            run.release()
            with _lock:
                for watcher in waiting[::-1]:
                    watcher.after_backward(run, error)
            raise
        if waiting:
            with _lock:
                for watcher in waiting[::-1]:
                    watcher.after_backward(run, None)
        return result

    return _engine_run_backward


def _call(original: Callable[..., Any]) -> Callable[..., Any]:
    compiling, inside = torch.compiler.is_dynamo_compiling, here.get
    replaces = original is nn.Module._wrapped_call_impl

    @functools.wraps(original)
    def __call__(self: nn.Module, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        if compiling():
            return original(self, *args, **kwargs)
        if _resting or id(self) in inside():
            if replaces and self._compiled_call_impl is None:
                # What torch's own wrapper does: the calls inside a model shall cost no more.
                return self._call_impl(*args, **kwargs)
            return original(self, *args, **kwargs)
        watchers = _watchers
        if len(watchers) == 1:
            return watchers[0].calls.called(original, self, args, kwargs, alone=True)
        run = original
        for watcher in watchers:
            run = functools.partial(_through, watcher.calls, run)
        return run(self, *args, **kwargs)

    return __call__


def _through(
    calls: Calls, run: Callable[..., Any], module: nn.Module, *args: Any, **kwargs: Any
) -> Any:
    return calls.called(run, module, args, kwargs)


def _optimizer_zero_grad(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def zero_grad(self: Optimizer, set_to_none: bool = True) -> None:
        original(self, set_to_none)
        with _lock:
            for watcher in _watchers:
                watcher.cleared(self)

    return zero_grad


def _module_zero_grad(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def zero_grad(self: nn.Module, set_to_none: bool = True) -> None:
        original(self, set_to_none)
        with _lock:
            for watcher in _watchers:
                watcher.cleared(self)

    return zero_grad


def _before_step(optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
    frame = sys._getframe(1)
    closure = None
    if kwargs or len(args) > 1:
        closure = kwargs.get("closure") or next((arg for arg in args[1:] if callable(arg)), None)
    if closure is None:
        with _lock:
            for watcher in _watchers:
                watcher.before_step(optimizer, frame)
        return None
    # A step with a closure spends what the closure's last backward leaves: judge there, before
    # the optimizer reads it.
    wrapped = _closure(optimizer, closure)
    if "closure" in kwargs:
        return args, {**kwargs, "closure": wrapped}
    return tuple(wrapped if arg is closure else arg for arg in args), kwargs


def _closure(optimizer: Optimizer, closure: Callable[[], Any]) -> Callable[[], Any]:
    @functools.wraps(closure)
    def evaluated() -> Any:
        result = closure()
        with _lock:
            for watcher in _watchers:
                watcher.before_step(optimizer, sys._getframe(1))
        return result

    return evaluated


def _after_step(optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
    for watcher in _watchers:
        if watcher.coasting:
            watcher.after_step(optimizer)

"""The contract in the source: what calls to gradguard itself declare."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any, NamedTuple

from gradguard.core.policy import Policy, PolicyError, Rule, may, must, never
from gradguard.lint import events
from gradguard.lint.carry import units_of
from gradguard.lint.run import Frame, Run
from gradguard.lint.values import NONE, Const, Context, Data, Dict, Instance, Seq, Unit, Value

__all__ = ["Contract", "call", "call_method"]

_BUILDERS = {"must": must, "may": may, "never": never}


class Contract(NamedTuple):
    """What is declared for the backward passes under it.

    Attributes:
        only: The units that may be reached, where a context manager lists them.
        loss: The name under which a guard knows the loss.
        models: The guard's models, by name.
        policy: The guard's policy.
    """

    only: frozenset[Unit] | None = None
    loss: str | None = None
    models: Mapping[str, frozenset[Unit]] | None = None
    policy: Policy | None = None


def call(
    run: Run, name: str, args: list[Value], kwargs: dict[str, Value], frame: Frame, node: ast.AST
) -> Value:
    """Call one of gradguard's own functions."""
    site = frame.site(node)
    match name:
        case "only":
            made = Context()
            made.contract = Contract(only=frozenset(u for arg in args for u in units_of(arg)))
            return made
        case "backward":
            into = kwargs.get("into", args[1] if len(args) > 1 else None)
            return events.backward(run, args[:1], frame, node, into=into)
        case "frozen":
            held = Context()
            held.freezes = tuple(unit for arg in args for unit in units_of(arg))
            return held
        case "must" | "may" | "never":
            rule = _BUILDERS[name](*(str(a.value) for a in args if isinstance(a, Const)))
            found = Instance(run.fresh(), lib="gradguard.Rule")
            found.attrs["rule"] = Const(None)
            found.attrs["rule"].value = rule  # type: ignore[attr-defined]
            return found
        case "Guard":
            return _guard(run, args, kwargs)
        case _:
            return run.data(site)


def _guard(run: Run, args: list[Value], kwargs: dict[str, Value]) -> Value:
    made = Instance(run.fresh(), lib="gradguard.Guard")
    models = args[0] if args else kwargs.get("models", NONE)
    declared = args[1] if len(args) > 1 else kwargs.get("policy", NONE)
    held = Const(None)
    named: dict[str, frozenset[Unit]] = {}
    if isinstance(models, Dict):
        named = {str(k): frozenset(units_of(v)) for k, v in models.items.items()}
    try:
        policy = Policy.parse(_plain(declared)) if isinstance(declared, Dict) else None
    except PolicyError:
        policy = None
    held.value = Contract(models=named, policy=policy)
    made.attrs["contract"] = held
    return made


def _plain(value: Value) -> Any:
    match value:
        case Const():
            return value.value
        case Seq():
            return [_plain(item) for item in value.items]
        case Dict():
            return {key: _plain(item) for key, item in value.items.items()}
        case Instance() if value.lib == "gradguard.Rule":
            rule = value.attrs["rule"]
            return rule.value if isinstance(rule, Const) else Rule()
        case _:
            return None


def call_method(
    run: Run,
    receiver: Instance,
    name: str,
    args: list[Value],
    kwargs: dict[str, Value],
    frame: Frame,
    node: ast.AST,
) -> Value:
    """Call a method of a guard."""
    held = receiver.attrs.get("contract")
    contract = (
        held.value if isinstance(held, Const) and isinstance(held.value, Contract) else Contract()
    )
    match name:
        case "loss" if args and isinstance(args[0], Const):
            made = Context()
            made.contract = contract._replace(loss=str(args[0].value))
            return made
        case "backward" if len(args) > 1 and isinstance(args[1], Const):
            run.contracts.append(contract._replace(loss=str(args[1].value)))
            try:
                return events.backward(run, args[:1], frame, node)
            finally:
                run.contracts.pop()
        case "watch":
            for key, value in kwargs.items():
                if isinstance(value, Data):
                    value.name = key
            return NONE
        case _:
            return run.data(frame.site(node))

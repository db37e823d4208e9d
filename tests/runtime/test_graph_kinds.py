"""On every kind of graph a guard finds exactly what the definitions of leak and spill say."""

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import pytest
import torch
from graph_kinds import KINDS, Kind, Loss, Rule, Truth
from torch import Tensor, nn
from torch.utils._pytree import tree_map

import gradguard

REACHED = {Truth.MEANT, Truth.LEAK, Truth.SHADOW, Truth.SPILL, Truth.ZERO, Truth.EXCUSED}

every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def parameters_of(models: Mapping[str, Any]) -> dict[str, list[nn.Parameter]]:
    """Return the parameters of each model, in order, whatever way the model was declared."""

    def flatten(model: Any) -> Iterable[nn.Parameter]:
        if isinstance(model, str):
            return [
                parameter
                for name, base in models.items()
                if isinstance(base, nn.Module)
                for path, parameter in base.named_parameters()
                if fnmatchcase(f"{name}.{path}", model)
            ]
        if isinstance(model, nn.Module):
            return model.parameters()
        if isinstance(model, Tensor):
            assert isinstance(model, nn.Parameter)
            return [model]
        return [parameter for part in model for parameter in flatten(part)]

    return {name: list(flatten(model)) for name, model in models.items()}


def take_gradients(parameters: Iterable[nn.Parameter]) -> list[Tensor | None]:
    """Return the gradients in order, and leave none behind."""
    taken = []
    for parameter in parameters:
        taken.append(parameter.grad)
        parameter.grad = None
    return taken


def same(left: list[Tensor | None], right: list[Tensor | None]) -> bool:
    """Tell whether two lists of gradients are bit-identical, None for None."""
    return len(left) == len(right) and all(
        torch.equal(a, b) if a is not None and b is not None else a is b
        for a, b in zip(left, right, strict=True)
    )


def everything(models: Mapping[str, Any]) -> list[nn.Parameter]:
    """Return the parameters of all models, each once."""
    return list({id(p): p for ps in parameters_of(models).values() for p in ps}.values())


Said = tuple[str, str | None, str | None]


def backward_all(losses: Mapping[str, Tensor], kind: Kind) -> None:
    """Run the backward passes that the kind asks for, without a guard."""
    if kind.joint:
        torch.autograd.backward(sum(losses.values(), torch.zeros(())))
        return
    for loss in losses.values():
        torch.autograd.backward(loss, retain_graph=True)


def run_unguarded(kind: Kind, only: str | None = None) -> list[Tensor | None]:
    """Run all losses of the kind, or one; return the gradients that every parameter ends with."""
    torch.manual_seed(0)
    stages = kind.stages()
    models, losses = next(stages), next(stages)
    if only is None:
        backward_all(losses, kind)
    else:
        torch.autograd.backward(losses[only])
    return take_gradients(everything(models))


@cache
def run_guarded(kind: Kind) -> tuple[gradguard.Guard, list[Tensor | None]]:
    """Run the kind under a guard that records, once; return the guard and the gradients."""
    torch.manual_seed(0)
    stages = kind.stages()
    models = next(stages)
    guard = gradguard.Guard(models, kind.policy, on_violation="record")
    with guard:
        losses = next(stages)
        if kind.joint:
            guard.watch(**losses)
            backward_all(losses, kind)
        else:
            for name, loss in losses.items():
                with guard.loss(name):
                    torch.autograd.backward(loss, retain_graph=True)
    return guard, take_gradients(everything(models))


def found(findings: Iterable[gradguard.Finding]) -> set[Said]:
    """Return what each finding says, without where."""
    return {(finding.code, finding.loss, finding.model) for finding in findings}


@every_kind
def test_guard_finds_exactly_the_leaks_and_spills_of_every_kind_of_graph(kind: Kind) -> None:
    """Code, loss and model of all findings are those that the definitions give, and no others."""
    guard, _ = run_guarded(kind)
    assert found(guard.ledger.findings) == kind.findings


@every_kind
def test_spills_are_kept_in_the_ledger_and_out_of_the_findings(kind: Kind) -> None:
    """`guard.findings` is the ledger's without GG102, which is off by default."""
    guard, _ = run_guarded(kind)
    assert found(guard.findings) == {said for said in kind.findings if said[0] != "GG102"}


@every_kind
def test_gradients_under_a_guard_are_bit_identical_to_those_without(kind: Kind) -> None:
    """Recording changes no gradient, not even from None to zero."""
    _, guarded = run_guarded(kind)
    assert same(guarded, run_unguarded(kind))


@every_kind
def test_flow_of_a_guard_is_the_reach_of_the_real_backward(kind: Kind) -> None:
    """What the guard says was reached is what the declared truth, checked by torch, says."""
    guard, _ = run_guarded(kind)
    for (loss, model), truth in kind.truth.items():
        reach = guard.flow[loss, model]
        assert (reach in {gradguard.Reach.REACHED, gradguard.Reach.ZERO}) == (truth in REACHED), (
            loss,
            model,
        )


def trained_by(rule: Rule, parameters: Mapping[str, list[nn.Parameter]]) -> list[nn.Parameter]:
    """Return the parameters that a rule lets a loss train: an explicit never wins."""
    if not isinstance(rule, dict):
        names, never = ({rule} if isinstance(rule, str) else set(rule)), set[str]()
    else:
        never = set(rule.get("never", []))
        closed = "only" in rule
        names = set(rule["only"]) | set(rule.get("may", [])) if closed else set(parameters) - never
    held = {id(p) for name in never for p in parameters[name]}
    free = {id(p): p for name in sorted(names) for p in parameters[name] if id(p) not in held}
    return list(free.values())


def run_refusing(kind: Kind, loss: str) -> tuple[set[Said], Mapping[str, Any]]:
    """Run one loss under a guard that raises; return what it raised, and the models."""
    torch.manual_seed(0)
    stages = kind.stages()
    models = next(stages)
    raised: set[Said] = set()
    try:
        with gradguard.Guard(models, kind.policy, on_violation="raise") as guard:
            losses = next(stages)
            with guard.loss(loss):
                torch.autograd.backward(losses[loss])
    except gradguard.IsolationError as error:
        raised = found(error.findings)
    return raised, models


@pytest.mark.parametrize(
    ("kind", "loss"),
    [
        pytest.param(kind, loss, id=f"{kind.name}-{loss.name}")
        for kind in KINDS.values()
        for loss in kind.losses
    ],
)
def test_raising_guard_refuses_dead_ends_and_keeps_their_gradients_out(
    kind: Kind, loss: Loss
) -> None:
    """A leak is raised and leaves nothing behind; a spill, and what is meant, goes through."""
    raised, models = run_refusing(kind, loss.name)
    due = {said for said in kind.findings if said[1] == loss.name and said[0] != "GG102"}
    assert raised == due
    parameters = parameters_of(models)
    allowed = {id(p) for p in trained_by(loss.rule, parameters)}
    for model, claim in loss.claims.items():
        if claim.truth in {Truth.LEAK, Truth.SHADOW}:
            assert all(p.grad is None or id(p) in allowed for p in parameters[model])
    if not due:
        guarded = take_gradients(everything(models))
        assert same(guarded, run_unguarded(kind, loss.name))


@every_kind
def test_declared_truth_agrees_with_torch_about_what_is_reached(kind: Kind) -> None:
    """A model is declared reached if and only if the loss writes a gradient into it."""
    torch.manual_seed(0)
    stages = kind.stages()
    models, losses = next(stages), next(stages)
    parameters = parameters_of(models)
    assert set(losses) == set(kind.policy)
    assert set(kind.truth) == {(loss, model) for loss in losses for model in models}
    for name, loss in losses.items():
        torch.autograd.backward(loss, retain_graph=True)
        for model, held in parameters.items():
            written = [p.grad for p in held if p.grad is not None]
            truth = kind.truth[name, model]
            assert bool(written) == (truth in REACHED), (name, model)
            assert not written or any(g.any() for g in written) == (truth is not Truth.ZERO), (
                name,
                model,
            )
        take_gradients(everything(models))


def parts_of(model: Any, mine: set[int], allowed: set[int]) -> list[nn.Module]:
    """Return the modules whose calls are the model's: they hold its parameters, none allowed."""
    if isinstance(model, nn.Module):
        return [
            part
            for part in model.modules()
            if (held := {id(p) for p in part.parameters()}) & mine and not held & allowed
        ]
    if isinstance(model, str | Tensor):
        return []
    return [part for piece in model for part in parts_of(piece, mine, allowed)]


def detached(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a module's forward so that what it returns leads back to nothing.

    It still asks for gradient where it did, for programs that differentiate inside their forward.
    """

    def cut(output: Any) -> Any:
        if isinstance(output, Tensor) and output.requires_grad:
            return output.detach().requires_grad_().clone()
        return output

    def run(*args: Any, **kwargs: Any) -> Any:
        return tree_map(cut, forward(*args, **kwargs))

    return run


def gradients_of_allowed(kind: Kind, loss: str, cut: str | None) -> list[Tensor | None] | None:
    """Return the gradients of what the loss may train, with the calls of one model detached.

    None if no backward is possible then: the loss has lost its graph.
    """
    torch.manual_seed(0)
    stages = kind.stages()
    models = next(stages)
    parameters = parameters_of(models)
    allowed = trained_by(kind.policy[loss], parameters)
    if cut is not None:
        mine = {id(p) for p in parameters[cut]}
        sources = models.values() if isinstance(models[cut], str) else [models[cut]]
        for source in sources:
            for part in parts_of(source, mine, {id(p) for p in allowed}):
                part.forward = detached(part.forward)
    try:
        torch.autograd.backward(next(stages)[loss])
    except RuntimeError:
        return None
    return take_gradients(allowed)


@pytest.mark.parametrize(
    ("kind", "loss", "model"),
    [
        pytest.param(kind, loss, model, id=f"{kind.name}-{loss}-{model}")
        for kind in KINDS.values()
        if kind.detachable
        for (loss, model), truth in kind.truth.items()
        if truth in {Truth.LEAK, Truth.SHADOW, Truth.SPILL}
    ],
)
def test_declared_dead_ends_are_where_a_detach_costs_nothing(
    kind: Kind, loss: str, model: str
) -> None:
    """A detach of what the model returns changes nothing that the loss may train, or it is a spill.

    This is the definition of a dead end, put to torch itself and not to the tool.
    """
    before = gradients_of_allowed(kind, loss, None)
    after = gradients_of_allowed(kind, loss, model)
    assert before is not None
    costs_nothing = after is not None and same(before, after)
    assert costs_nothing == (kind.truth[loss, model] in {Truth.LEAK, Truth.SHADOW})

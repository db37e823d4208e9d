"""Reference answers about random programs, computed by `torch.autograd.grad` alone."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from random_programs import Program, build, interpret
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

import gradguard

Gradients = Sequence[Tensor | None]
Models = Mapping[str, nn.Module]


def run(program: Program) -> tuple[dict[str, nn.Sequential], dict[str, Tensor]] | None:
    """Return the models and losses of a program, or None where autograd forbids it."""
    torch.manual_seed(0)
    models = build(program.nets)
    try:
        losses = interpret(program, models)
        for loss in losses.values():
            for model in models.values():
                gradients(loss, model)
    except RuntimeError:
        return None
    return models, losses


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that ask for a gradient now."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def gradients(loss: Tensor, model: nn.Module) -> Gradients:
    """Return what the loss sends to each trainable parameter of the model."""
    parameters = trainable(model)
    if not loss.requires_grad or not parameters:
        return [None] * len(parameters)
    return torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)


def reach(loss: Tensor, model: nn.Module, *, numeric: bool) -> gradguard.Reach:
    """Return the reach that the gradients prove."""
    written = [gradient for gradient in gradients(loss, model) if gradient is not None]
    if not written:
        return gradguard.Reach.NONE
    if numeric and not any(bool(gradient.any()) for gradient in written):
        return gradguard.Reach.ZERO
    return gradguard.Reach.REACHED


def reaches(
    losses: Mapping[str, Tensor], models: Models, *, numeric: bool
) -> dict[tuple[str, str], gradguard.Reach]:
    """Return the reach of every pair of loss and model."""
    return {
        (loss, model): reach(losses[loss], models[model], numeric=numeric)
        for loss in losses
        for model in models
    }


@contextmanager
def recorded_calls(models: Models) -> Iterator[dict[str, list[GradientEdge]]]:
    """Collect, for each model, where in the graph the outputs of its calls are."""
    edges: dict[str, list[GradientEdge]] = {name: [] for name in models}

    def recorder(name: str) -> Any:
        def record(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            if output.requires_grad:
                edges[name].append(get_gradient_edge(output))

        return record

    handles = [model.register_forward_hook(recorder(name)) for name, model in models.items()]
    try:
        yield edges
    finally:
        for handle in handles:
            handle.remove()


def passes_through(
    loss: Tensor, edges: Sequence[GradientEdge], allowed: Sequence[nn.Parameter]
) -> bool:
    """Tell whether something allowed lies behind one of the calls that the loss reaches."""
    for edge in edges:
        (arrived,) = torch.autograd.grad(loss, edge, retain_graph=True, allow_unused=True)
        if arrived is None or not allowed:
            continue
        behind = torch.autograd.grad(
            [edge], allowed, [torch.ones_like(arrived)], retain_graph=True, allow_unused=True
        )
        if any(gradient is not None for gradient in behind):
            return True
    return False

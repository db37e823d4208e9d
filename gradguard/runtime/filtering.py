"""Backward passes that write to chosen models only, computing less than an unfiltered one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from gradguard.core.codes import code
from gradguard.core.findings import Finding, IsolationError, Severity, TraceStep
from gradguard.runtime.graph import Graph, roots_of
from gradguard.runtime.models import parameters_of
from gradguard.runtime.sites import site

__all__ = ["backward", "backward_into", "reached_leaves"]


def backward(
    loss: Tensor,
    into: Any,
    *,
    gradient: Tensor | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> None:
    """Run ``loss`` backward into one model, and no other.

    The gradients of all other parameters are neither computed nor written, which makes the pass
    cheaper than an unfiltered one. Parameters of ``into`` that are frozen are left out.

    Args:
        loss: The loss, a scalar unless ``gradient`` is given.
        into: A module, a parameter, or a collection of them.
        gradient: The gradient to start with, of the shape of ``loss``.
        retain_graph: As for :func:`torch.autograd.backward`.
        create_graph: As for :func:`torch.autograd.backward`.

    Raises:
        IsolationError: GG301, before anything is written, if ``loss`` does not reach ``into``.
        RuntimeError: If the loss has no graph, or a reentrant checkpoint lies on the way, which
            cannot be filtered.
        ValueError: If nothing in ``into`` requires gradient.

    Example:
        >>> import torch, gradguard
        >>> critic, generator = torch.nn.Linear(2, 1), torch.nn.Linear(3, 2)
        >>> loss = -critic(generator(torch.randn(4, 3))).mean()
        >>> gradguard.backward(loss, into=generator)
        >>> critic.weight.grad is None
        True
    """
    parameters = {id(p): p for p in parameters_of("into", into) if p.requires_grad}
    shown = f"`into` ({type(into).__name__})"
    if not parameters:
        raise ValueError(f"nothing in {shown} requires gradient: all of it is frozen")

    def wanted(leaf: Tensor) -> bool:
        return parameters.get(id(leaf)) is leaf

    leaves = reached_leaves(loss, wanted, shown, "the loss", sys._getframe(1))
    backward_into(loss, leaves, gradient, retain_graph, create_graph)


def reached_leaves(
    loss: Tensor,
    wanted: Callable[[Tensor], bool],
    into: str,
    name: str,
    frame: FrameType | None,
) -> list[Tensor]:
    """Return the leaves that ``loss`` reaches and that are wanted.

    Raises:
        IsolationError: GG301, if there are none.
        RuntimeError: If the loss has no graph or hides a part of it.
    """
    if not isinstance(loss, Tensor):
        raise TypeError(f"{name} is a {type(loss).__name__}, not a tensor")
    graph = Graph(roots_of([loss]))
    if graph.empty:
        raise RuntimeError(
            f"{name} has no graph: it was computed under no_grad, detached, or from frozen "
            "parameters only"
        )
    if graph.blind:
        raise RuntimeError(
            f"a reentrant checkpoint lies between {name} and {into}: its gradients cannot be "
            "filtered. Use torch.utils.checkpoint.checkpoint(..., use_reentrant=False)"
        )
    leaves = [leaf for _, leaf in graph.tensors() if leaf.requires_grad and wanted(leaf)]
    if not leaves:
        place = site(frame).place
        finding = Finding(
            code="GG301",
            name=code("GG301").name,
            severity=Severity.ERROR,
            message=f"{name} does not reach {into}",
            place=place,
            trace=(TraceStep(place, "no parameter would receive gradient"),),
        )
        raise IsolationError([finding])
    return leaves


def backward_into(
    loss: Tensor,
    leaves: list[Tensor],
    gradient: Tensor | None,
    retain_graph: bool | None,
    create_graph: bool,
) -> None:
    """Run ``loss`` backward into ``leaves``."""
    torch.autograd.backward(
        loss,
        grad_tensors=gradient,
        retain_graph=retain_graph,
        create_graph=create_graph,
        inputs=leaves,
    )

"""What reaches what, read from the graphs of losses before any backward."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from gradguard.core.events import Backward, Deposit
from gradguard.core.findings import IsolationError
from gradguard.core.flow import FlowMatrix, Reach
from gradguard.core.ledger import Ledger
from gradguard.core.policy import Policy, Rule
from gradguard.core.verdicts import Moment
from gradguard.runtime import evidence
from gradguard.runtime.calls import Calls
from gradguard.runtime.graph import Graph, roots_of
from gradguard.runtime.learn import Learner, optimizers_alive
from gradguard.runtime.models import named
from gradguard.runtime.names import argument_names, loss_names
from gradguard.runtime.proof import Answer, ask
from gradguard.runtime.reach import Reading
from gradguard.runtime.registry import Registry
from gradguard.runtime.sites import site

__all__ = ["assert_isolated", "flow"]


def flow(
    losses: Mapping[str, Tensor], models: Mapping[str, Any], numeric: bool = False
) -> FlowMatrix:
    """Say which of ``losses`` reaches which of ``models``, running and writing nothing.

    Args:
        losses: Tensors of any shape, by name.
        models: Models by name, in any form that a guard takes.
        numeric: Ask autograd for the gradients as well, which tells gradient that is all zero
            from gradient that is not, and settles what the graph leaves unknown.

    Returns:
        The matrix, with ``Reach.UNKNOWN`` where every path leads through a custom Function, a
        compiled region or a reentrant checkpoint, unless ``numeric`` could tell.

    Raises:
        TypeError: If a loss is no tensor.
        ValueError: If losses or models have no names, or a model has no parameters.

    Example:
        >>> import torch, gradguard
        >>> critic, generator = torch.nn.Linear(2, 1), torch.nn.Linear(3, 2)
        >>> fake = generator(torch.randn(4, 3))
        >>> matrix = gradguard.flow(
        ...     {"critic_loss": critic(fake.detach()).mean()},
        ...     {"critic": critic, "generator": generator},
        ... )
        >>> matrix["critic_loss", "generator"]
        <Reach.NONE: 'none'>
    """
    if not isinstance(losses, Mapping) or not losses:
        raise ValueError('losses is a mapping of names to tensors, such as {"critic_loss": loss}')
    registry = Registry(named(models))
    where = site(sys._getframe(1))
    cells: dict[tuple[str, str], Reach] = {}
    backwards: list[Backward] = []
    for name, loss in losses.items():
        if not isinstance(loss, Tensor):
            raise TypeError(f"loss `{name}` is a {type(loss).__name__}, not a tensor")
        graph = Graph(roots_of([loss]))
        reading = Reading(graph, registry)
        reading.look_behind(lambda _: True, None)
        certain = graph.certain()
        for model in models:
            nodes = [
                node
                for arrival in reading.arrivals.values()
                if model in arrival.account.owners
                for node in arrival.nodes
            ]
            reach = Reach.NONE
            if nodes:
                reach = Reach.REACHED if certain.intersection(nodes) else Reach.UNKNOWN
            elif graph.blind and not registry.untrainable((model,)):
                reach = Reach.UNKNOWN
            if numeric and nodes:
                reach = _measured(loss, [node.variable for node in nodes], reach)
            cells[name, model] = reach
        deposits = tuple(
            Deposit(arrival.account, arrival.behind, sure=arrival.sure)
            for arrival in reading.arrivals.values()
            if any(cells[name, owner] is Reach.REACHED for owner in arrival.account.owners)
        )
        backwards.append(
            Backward(
                name,
                deposits,
                where.place,
                untrainable=registry.untrainable(models),
                unknown=frozenset(m for m in models if cells[name, m] is Reach.UNKNOWN),
            )
        )
    return FlowMatrix(tuple(losses), tuple(models), cells, backwards=tuple(backwards))


def _measured(loss: Tensor, leaves: list[Tensor], before: Reach) -> Reach:
    answer = ask([loss], None, leaves)
    known = {Answer.LIVE: Reach.REACHED, Answer.ZERO: Reach.ZERO, Answer.NONE: Reach.NONE}
    return known.get(answer, before)


def assert_isolated(loss: Tensor, only: Any) -> None:
    """Assert, before any backward, that a loss trains one model and no other.

    A model that the loss merely passes through is no violation; one that it reaches over a dead
    end is, and so is missing ``only`` itself. Nothing is installed, written or kept.

    Args:
        loss: A tensor with a graph.
        only: The model it may train: a module, a parameter, or a collection of them.

    Raises:
        IsolationError: With the findings, if the loss reaches another model or misses ``only``.
        RuntimeError: If the loss has no graph, or a reentrant checkpoint hides a part of it.

    Example:
        >>> import torch, gradguard
        >>> critic, generator = torch.nn.Linear(2, 1), torch.nn.Linear(3, 2)
        >>> fake = generator(torch.randn(4, 3))
        >>> gradguard.assert_isolated(critic(fake.detach()).mean(), only=critic)
    """
    if not isinstance(loss, Tensor):
        raise TypeError(f"the loss is a {type(loss).__name__}, not a tensor")
    frame = sys._getframe(1)
    where = site(frame)
    spelled = argument_names(where, 1, "assert_isolated", keyword="only")
    model = spelled[-1] if spelled else type(only).__name__
    name = next(iter(loss_names(where)), "loss")
    graph = Graph(roots_of([loss]))
    if graph.empty:
        raise RuntimeError(
            f"`{name}` has no graph: it was computed under no_grad, detached, or from frozen "
            "parameters only"
        )
    if graph.blind:
        raise RuntimeError(
            f"a reentrant checkpoint hides what `{name}` reaches until it runs backward; use "
            "use_reentrant=False, or let a gradguard.Guard watch the backward itself"
        )
    registry = Registry({model: only})
    if any(True for _, leaf in graph.tensors() if registry.index(leaf) is None):
        for optimizer in optimizers_alive():
            registry.held_by(optimizer)
    reading = Reading(graph, registry)
    if reading.strangers and Learner(registry).by_parameter(reading.strangers, frame):
        reading = Reading(graph, registry)
    calls = Calls(registry)
    reading.look_behind(lambda account: model not in account.owners, None)
    reached: Counter[str] = Counter()
    for arrival in reading.arrivals.values():
        reached[arrival.account.owners[0]] += len(arrival.leaves)
    ledger = Ledger(Policy({name: Rule(only=frozenset((model,)))}), registry.names())
    event = Backward(
        name,
        tuple(
            Deposit(
                arrival.account,
                arrival.behind,
                arrival.sure,
                evidence=None
                if model in arrival.account.owners
                else evidence.Accused(
                    loss=name,
                    model=arrival.account.owners[0],
                    passes=False,
                    arrival=arrival,
                    reached=reached[arrival.account.owners[0]],
                    graph=graph,
                    calls=calls,
                    registry=registry,
                    where=where,
                    frame=frame,
                ).evidence(),
            )
            for arrival in reading.arrivals.values()
            if _measured(loss, arrival.leaves, Reach.REACHED) is Reach.REACHED
            or model in arrival.account.owners
        ),
        where.place,
        blind=bool(graph.blind),
    )
    sightings = [*ledger.post(event), *ledger.end()]
    found = [s.finding for s in sightings if s.verdict.raises is not Moment.NEVER]
    if found:
        raise IsolationError(found)

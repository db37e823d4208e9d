"""What reaches what: the matrix of losses and models."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from gradguard.core.events import Backward
from gradguard.core.findings import Finding
from gradguard.core.judgement import Kind
from gradguard.core.ledger import Ledger
from gradguard.core.policy import Policy

__all__ = ["FlowMatrix", "Reach"]


class Reach(Enum):
    """How a loss reaches a model."""

    NONE = "none"
    """No gradient arrives."""
    ZERO = "zero"
    """Gradient arrives, and every element of it is zero."""
    REACHED = "reached"
    """Gradient arrives."""
    UNKNOWN = "unknown"
    """Only a region that cannot be looked into lies on the way."""


_SIGNS = {
    (Reach.NONE, None): ("·", "no gradient"),
    (Reach.ZERO, None): ("0", "gradient that is all zero"),
    (Reach.UNKNOWN, None): ("?", "unknown"),
    (Reach.REACHED, None): ("●", "reached"),
    (Reach.REACHED, Kind.OPEN): ("●", "reached"),
    (Reach.REACHED, Kind.MEANT): ("●", "meant"),
    (Reach.REACHED, Kind.SPILL): ("○", "spilled on the way"),
    (Reach.REACHED, Kind.LEAK): ("✗", "leaked"),
}
_STARVED = ("!", "starved")


@dataclass(frozen=True, slots=True)
class FlowMatrix:
    """Which loss reaches which model.

    Attributes:
        losses: The names of the losses, the rows.
        models: The names of the models, the columns.
        cells: For each pair how the loss reaches the model.
        kinds: For each reached pair how that relates to the policy, where there is one.
        starved: The pairs in which the loss misses a model that it must train.
        backwards: The backward passes the matrix sums up, by which a policy is checked.

    Example:
        >>> matrix = FlowMatrix(("loss",), ("critic",), {("loss", "critic"): Reach.REACHED})
        >>> matrix["loss", "critic"]
        <Reach.REACHED: 'reached'>
    """

    losses: tuple[str, ...]
    models: tuple[str, ...]
    cells: Mapping[tuple[str, str], Reach]
    kinds: Mapping[tuple[str, str], Kind] = field(default_factory=dict)
    starved: frozenset[tuple[str, str]] = frozenset()
    backwards: Sequence[Backward] = ()

    def __getitem__(self, pair: tuple[str, str]) -> Reach:
        """Return how a loss reaches a model.

        Raises:
            KeyError: If the matrix has no such loss or model; the message lists what it has.
        """
        loss, model = pair
        if loss not in self.losses:
            raise KeyError(f"no loss {loss!r}; the losses are: {', '.join(self.losses)}")
        if model not in self.models:
            raise KeyError(f"no model {model!r}; the models are: {', '.join(self.models)}")
        return self.cells.get((loss, model), Reach.NONE)

    def check(self, policy: Policy | Mapping[str, Any]) -> list[Finding]:
        """Return what breaks ``policy``: leaks over dead ends and models that are starved.

        Losses that the policy does not name are not judged, and nothing is said of steps, which
        a matrix knows nothing about.

        Args:
            policy: What each loss may train, in any form that a guard takes.

        Raises:
            PolicyError: If the policy names a model that the matrix does not have.
        """
        parsed = Policy.parse(policy).validate(self.models)
        ledger = Ledger(parsed, self.models)
        for backward in self.backwards:
            ledger.post(backward)
        ledger.end()
        return [finding for finding in ledger.findings if finding.code != "GG102"]

    def to_dict(self) -> dict[str, Any]:
        """Return the matrix as plain data: names, and reach by loss and model."""
        return {
            "losses": list(self.losses),
            "models": list(self.models),
            "reach": {
                loss: {model: self[loss, model].value for model in self.models}
                for loss in self.losses
            },
            "kind": {
                loss: {model: self._legend(loss, model)[1] for model in self.models}
                for loss in self.losses
            },
        }

    def _legend(self, loss: str, model: str) -> tuple[str, str]:
        if (loss, model) in self.starved:
            return _STARVED
        reach = self[loss, model]
        kind = self.kinds.get((loss, model)) if reach is Reach.REACHED else None
        return _SIGNS[reach, kind]

    def _rows(self) -> list[tuple[str, list[tuple[str, str]]]]:
        return [
            (loss, [self._legend(loss, model) for model in self.models]) for loss in self.losses
        ]

    def __str__(self) -> str:
        """Render the matrix as a table of plain text, with a legend of the signs in it."""
        if not self.losses or not self.models:
            return "no loss has run backward yet"
        first = max(len(loss) for loss in self.losses)
        widths = [max(len(model), 1) for model in self.models]
        lines = [" " * first + "  " + "  ".join(self.models)]
        used: dict[str, str] = {}
        for loss, cells in self._rows():
            used.update(cells)
            signs = (sign.center(width) for (sign, _), width in zip(cells, widths, strict=True))
            lines.append(f"{loss:<{first}}  {'  '.join(signs)}".rstrip())
        lines.append("  ".join(f"{sign} {text}" for sign, text in used.items()))
        return "\n".join(lines)

    def __rich__(self) -> Any:
        """Render the matrix for a rich console."""
        from rich.table import Table
        from rich.text import Text

        styles = {"●": "green", "○": "yellow", "✗": "bold red", "!": "bold red", "?": "magenta"}
        used: dict[str, str] = {}
        table = Table(title="what reaches what", caption_justify="left")
        table.add_column("loss")
        for model in self.models:
            table.add_column(Text(model), justify="center")
        for loss, cells in self._rows():
            used.update(cells)
            marks = [Text(sign, style=styles.get(sign, "dim")) for sign, _ in cells]
            table.add_row(Text(loss), *marks)
        table.caption = "  ".join(f"{sign} {text}" for sign, text in used.items())
        return table

    def _repr_html_(self) -> str:
        """Render the matrix for a notebook."""
        head = "".join(f'<th scope="col">{html.escape(model)}</th>' for model in self.models)
        body = "".join(
            f'<tr><th scope="row">{html.escape(loss)}</th>'
            + "".join(f'<td title="{text}">{sign} {text}</td>' for sign, text in cells)
            + "</tr>"
            for loss, cells in self._rows()
        )
        return (
            "<table><caption>what reaches what</caption>"
            f"<thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>"
        )


def matrix_of(
    ledger: Ledger, models: Iterable[str], zero: Iterable[tuple[str, str]] = ()
) -> FlowMatrix:
    """Sum up what a ledger has seen as a matrix.

    Args:
        ledger: The ledger.
        models: The names of the models, in the order of the columns.
        zero: Pairs of loss and model in which all gradient was found to be zero.
    """
    names = tuple(models)
    cells: dict[tuple[str, str], Reach] = dict.fromkeys(zero, Reach.ZERO)
    kinds: dict[tuple[str, str], Kind] = {}
    order = (Kind.OPEN, Kind.MEANT, Kind.SPILL, Kind.LEAK)
    for loss, reached in ledger.seen.items():
        for account, kind in reached.items():
            for owner in account.owners:
                pair = (loss, owner)
                cells[pair] = Reach.REACHED
                kinds[pair] = max(kind, kinds.get(pair, kind), key=order.index)
    starved = frozenset(
        (finding.loss, finding.model)
        for finding in ledger.findings
        if finding.code == "GG301" and finding.loss and finding.model
    )
    return FlowMatrix(tuple(ledger.seen), names, cells, kinds, starved, tuple(ledger.last.values()))

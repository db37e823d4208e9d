"""What reaches what: the matrix of losses and models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from gradguard.core.events import Backward
from gradguard.core.findings import Finding
from gradguard.core.judgement import Kind
from gradguard.core.layout import Role, matrix_lines, plain, rich_lines
from gradguard.core.ledger import Ledger
from gradguard.core.notebook import notebook_matrix
from gradguard.core.policy import Policy, Rule

__all__ = ["FlowMatrix", "Reach", "Sign", "sign_of"]


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


class Sign(Enum):
    """What a pair of loss and model comes to, with its mark, its mark in ASCII, and words."""

    MEANT = "●", "+", "meant", Role.MEANT
    SPILLED = "○", "o", "spilled on the way", Role.SPILLED
    LEAKED = "✗", "X", "leaked", Role.LEAKED
    STARVED = "!", "!", "starved", Role.STARVED
    UNKNOWN = "?", "?", "unknown", Role.UNKNOWN
    REACHED = "◆", "*", "reached", Role.TEXT
    ZERO = "0", "0", "gradient that is all zero", Role.TEXT
    NONE = "·", "-", "no gradient", Role.QUIET

    def __init__(self, mark: str, ascii_mark: str, words: str, role: Role) -> None:
        """Name the parts."""
        self.mark = mark
        self.ascii = ascii_mark
        self.words = words
        self.role = role

    @property
    def tells(self) -> bool:
        """Whether there is anything to say about the pair."""
        return self is not Sign.NONE


_OF_REACH = {Reach.NONE: Sign.NONE, Reach.ZERO: Sign.ZERO, Reach.UNKNOWN: Sign.UNKNOWN}
_OF_KIND = {Kind.MEANT: Sign.MEANT, Kind.SPILL: Sign.SPILLED, Kind.LEAK: Sign.LEAKED}

# From what says least to what says most.
_KINDS = (Kind.OPEN, Kind.MEANT, Kind.SPILL, Kind.LEAK)
_REACHES = (Reach.NONE, Reach.ZERO, Reach.UNKNOWN, Reach.REACHED)


def sign_of(kind: Kind) -> Sign:
    """Return how gradient of a kind is shown."""
    return _OF_KIND.get(kind, Sign.REACHED)


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

    def to_policy(self) -> Policy:
        """Return what was seen as a contract: each loss trains what it trained, and nothing else.

        What leaked or was spilled on the way is no part of it, and what was starved is: checked
        against the same program, the contract finds the same. Where nothing was declared or
        inferred, all that a loss reached is taken to be meant. Review it before it gates anything.

        Example:
            >>> matrix = FlowMatrix(("loss",), ("critic",), {("loss", "critic"): Reach.REACHED})
            >>> matrix.to_policy().to_dict()
            {'loss': {'only': ['critic']}}
        """
        rules = {}
        for loss in self.losses:
            signs = {model: self.sign(loss, model) for model in self.models}
            only = [m for m, s in signs.items() if s in (Sign.MEANT, Sign.REACHED, Sign.STARVED)]
            open_ = [m for m, s in signs.items() if s in (Sign.ZERO, Sign.UNKNOWN)]
            rules[loss] = Rule(only=frozenset(only), may=frozenset(open_))
        return Policy(rules)

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
                loss: {model: self.sign(loss, model).words for model in self.models}
                for loss in self.losses
            },
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FlowMatrix:
        """Return the matrix that :meth:`to_dict` has made plain data of.

        The backward passes are not part of it, so that :meth:`check` finds nothing in it.
        """
        pairs = [(loss, model) for loss in data["losses"] for model in data["models"]]
        reach = {(loss, model): Reach(data["reach"][loss][model]) for loss, model in pairs}
        words = {(loss, model): data["kind"][loss][model] for loss, model in pairs}
        kinds = {sign.words: kind for kind, sign in _OF_KIND.items()}
        return cls(
            tuple(data["losses"]),
            tuple(data["models"]),
            {pair: one for pair, one in reach.items() if one is not Reach.NONE},
            {pair: kinds[words[pair]] for pair in pairs if words[pair] in kinds},
            frozenset(pair for pair in pairs if words[pair] == Sign.STARVED.words),
        )

    @classmethod
    def merged(cls, matrices: Iterable[FlowMatrix]) -> FlowMatrix:
        """Return one matrix of several runs, each pair as the worst of them has it.

        Example:
            >>> one = FlowMatrix(("a",), ("x",), {("a", "x"): Reach.ZERO})
            >>> other = FlowMatrix(("a", "b"), ("x",), {("a", "x"): Reach.REACHED})
            >>> FlowMatrix.merged([one, other])["a", "x"]
            <Reach.REACHED: 'reached'>
        """
        losses: dict[str, None] = {}
        models: dict[str, None] = {}
        cells: dict[tuple[str, str], Reach] = {}
        kinds: dict[tuple[str, str], Kind] = {}
        starved: frozenset[tuple[str, str]] = frozenset()
        backwards: list[Backward] = []
        for matrix in matrices:
            losses |= dict.fromkeys(matrix.losses)
            models |= dict.fromkeys(matrix.models)
            for pair, reach in matrix.cells.items():
                cells[pair] = max(reach, cells.get(pair, reach), key=_REACHES.index)
            for pair, kind in matrix.kinds.items():
                kinds[pair] = max(kind, kinds.get(pair, kind), key=_KINDS.index)
            starved |= matrix.starved
            backwards += matrix.backwards
        return cls(tuple(losses), tuple(models), cells, kinds, starved, backwards)

    def sign(self, loss: str, model: str) -> Sign:
        """Return what a pair comes to, as it is shown.

        Raises:
            KeyError: If the matrix has no such loss or model.
        """
        reach = self[loss, model]
        if (loss, model) in self.starved:
            return Sign.STARVED
        if reach is not Reach.REACHED:
            return _OF_REACH[reach]
        return sign_of(self.kinds.get((loss, model), Kind.OPEN))

    def __str__(self) -> str:
        """Render the matrix as a table of plain text, with a legend of the signs in it."""
        return plain(matrix_lines(self))

    def __rich_console__(self, _: Any, options: Any) -> Iterator[Any]:
        """Render the matrix for a rich console, within its width."""
        return rich_lines(matrix_lines(self, options.max_width, options.ascii_only))

    def _repr_html_(self) -> str:
        """Render the matrix for a notebook."""
        return notebook_matrix(self)


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
    for loss, reached in ledger.seen.items():
        for account, kind in reached.items():
            for owner in account.owners:
                pair = (loss, owner)
                cells[pair] = Reach.REACHED
                kinds[pair] = max(kind, kinds.get(pair, kind), key=_KINDS.index)
    starved = frozenset(
        (finding.loss, finding.model)
        for finding in ledger.findings
        if finding.code == "GG301" and finding.loss and finding.model
    )
    return FlowMatrix(tuple(ledger.seen), names, cells, kinds, starved, tuple(ledger.last.values()))

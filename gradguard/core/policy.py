"""What each loss may train: rules, and policies that map losses to rules."""

from __future__ import annotations

import difflib
import fnmatch
import json
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

__all__ = ["Policy", "PolicyError", "Rule", "Stance", "may", "must", "never"]


class PolicyError(ValueError):
    """Raised when a policy cannot be read, contradicts itself or names what does not exist."""


class Stance(Enum):
    """What a rule says about training a model."""

    MUST = "must"
    MAY = "may"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Rule:
    """What one loss may train; each entry is a model name or an fnmatch pattern over them.

    Attributes:
        only: These models and no others, each of which the loss must also reach; ``None`` if
            the rule does not close the set.
        must: At least these.
        may: Allowed, not required.
        never: Not these, though the loss may pass through them.

    Example:
        >>> rule = must("actor") | never("target_*")
        >>> rule.stance(["target_actor"])
        (<Stance.NEVER: 'never'>, 'target_actor')
    """

    only: frozenset[str] | None = None
    must: frozenset[str] = frozenset()
    may: frozenset[str] = frozenset()
    never: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Reject a rule that asks for a model and forbids it in the same words."""
        wanted = (self.only or frozenset()) | self.must | self.may
        for name in sorted(wanted & self.never):
            raise PolicyError(f"`{name}` is both allowed and under `never` in one rule: remove one")

    def __or__(self, other: Rule) -> Rule:
        """Combine two rules: what either says holds."""
        if not isinstance(other, Rule):
            return NotImplemented
        closed = self.only is not None or other.only is not None
        return Rule(
            only=(self.only or frozenset()) | (other.only or frozenset()) if closed else None,
            must=self.must | other.must,
            may=self.may | other.may,
            never=self.never | other.never,
        )

    @property
    def patterns(self) -> frozenset[str]:
        """Every name and pattern the rule mentions."""
        return self.demanded | self.may | self.never

    @property
    def demanded(self) -> frozenset[str]:
        """The names and patterns that the loss must reach."""
        return (self.only or frozenset()) | self.must

    def stance(self, owners: Collection[str]) -> tuple[Stance, str]:
        """Say whether parameters held by ``owners`` may be trained, and on whose account.

        An explicit ``never`` wins, then an allowed owner, and only what remains is judged by
        whether the rule is closed.

        Args:
            owners: Names of the models that hold the parameters, the most specific first.

        Returns:
            The stance and the owner that decided it.
        """
        for patterns, stance in (
            (self.never, Stance.NEVER),
            (self.demanded, Stance.MUST),
            (self.may, Stance.MAY),
        ):
            for owner in owners:
                if any(matches(owner, pattern) for pattern in patterns):
                    return stance, owner
        return (Stance.MAY if self.only is None else Stance.NEVER), next(iter(owners))

    def required(self, models: Iterable[str]) -> tuple[str, ...]:
        """Return the models among ``models`` that the loss must reach, in their order."""
        return tuple(
            model
            for model in models
            if any(matches(model, pattern) for pattern in self.demanded)
            and not any(matches(model, pattern) for pattern in self.never)
        )

    def to_dict(self) -> dict[str, list[str]]:
        """Return the rule as the table that a policy file holds."""
        table: dict[str, list[str]] = {} if self.only is None else {"only": sorted(self.only)}
        others = {"must": self.must, "may": self.may, "never": self.never}
        return table | {key: sorted(names) for key, names in others.items() if names}


def must(*models: str) -> Rule:
    """Require that a loss reaches at least ``models``.

    Example:
        >>> must("codebook").to_dict()
        {'must': ['codebook']}
    """
    return Rule(must=_names(models))


def may(*models: str) -> Rule:
    """Allow a loss to reach ``models`` without requiring it.

    Example:
        >>> (must("actor") | may("encoder")).to_dict()
        {'must': ['actor'], 'may': ['encoder']}
    """
    return Rule(may=_names(models))


def never(*models: str) -> Rule:
    """Forbid a loss to train ``models``; passing through them is not training.

    Example:
        >>> never("critic", "target_*").to_dict()
        {'never': ['critic', 'target_*']}
    """
    return Rule(never=_names(models))


@dataclass(frozen=True, slots=True)
class Policy:
    """The contract: for each loss, by name, what it may train.

    Example:
        >>> policy = Policy.parse({"critic_loss": "critic", "actor_loss": never("critic")})
        >>> policy.rule("critic_loss").to_dict()
        {'only': ['critic']}
    """

    rules: Mapping[str, Rule]

    @classmethod
    def parse(cls, declared: Policy | Mapping[str, Any]) -> Policy:
        """Build a policy from a mapping of loss names to rules.

        Args:
            declared: Each value is a model name, a list of names, a :class:`Rule`, or a table
                with the keys ``only``, ``must``, ``may``, ``never``; in Python and TOML alike.

        Raises:
            PolicyError: If an entry is none of these, with the entry named.
        """
        if isinstance(declared, Policy):
            return declared
        if not isinstance(declared, Mapping):
            raise PolicyError(
                "a policy is a mapping of loss names to rules, such as "
                f'{{"critic_loss": "critic"}}, not {type(declared).__name__}'
            )
        return cls({_loss(loss): _rule(loss, value) for loss, value in declared.items()})

    @classmethod
    def from_toml(cls, path: str | Path) -> Policy:
        """Read the ``[policy]`` table of a TOML file.

        Raises:
            PolicyError: If the file cannot be read or has no such table.
        """
        try:
            data = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise PolicyError(f"cannot read a policy from {path}: {error}") from error
        table = data.get("policy")
        if not isinstance(table, dict):
            raise PolicyError(
                f'{path} has no [policy] table; write: [policy] critic_loss = "critic"'
            )
        return cls.parse(table)

    def rule(self, loss: str) -> Rule | None:
        """Return the rule for ``loss``, or ``None`` if the policy does not speak of it."""
        found = self.rules.get(loss)
        if found is not None:
            return found
        for pattern, rule in self.rules.items():
            if ("*" in pattern or "?" in pattern) and matches(loss, pattern):
                return rule
        return None

    def validate(self, models: Collection[str]) -> Policy:
        """Return the policy if every name and pattern in it matches one of ``models``.

        Raises:
            PolicyError: If one matches nothing; the message lists what exists.
        """
        for loss, rule in self.rules.items():
            for pattern in sorted(rule.patterns):
                if not any(matches(model, pattern) for model in models):
                    known = ", ".join(f"`{model}`" for model in models) or "none"
                    raise PolicyError(
                        f"the policy for `{loss}` names `{pattern}`, which matches no model"
                        f"{suggestion(pattern, models)}; the models are: {known}"
                    )
            contradiction = [
                model
                for model in models
                if rule.stance((model,))[0] is Stance.NEVER and model in rule.demanded
            ]
            if contradiction:
                raise PolicyError(
                    f"the policy for `{loss}` demands `{contradiction[0]}` and forbids it by a "
                    "pattern under `never`: name in one of them only"
                )
        return self

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the losses."""
        return iter(self.rules)

    def __len__(self) -> int:
        """Count the losses that the policy speaks of."""
        return len(self.rules)

    def to_dict(self) -> dict[str, dict[str, list[str]]]:
        """Return the policy as the ``[policy]`` table of a policy file."""
        return {loss: rule.to_dict() for loss, rule in self.rules.items()}

    def to_toml(self) -> str:
        """Return the policy as the text of a policy file, which :meth:`from_toml` reads back.

        Example:
            >>> print(Policy.parse({"loss['pi']": "actor"}).to_toml(), end="")
            [policy]
            "loss['pi']" = { only = ["actor"] }
        """
        lines = ["[policy]"]
        for loss, table in self.to_dict().items():
            rule = ", ".join(
                f"{key} = [{', '.join(map(_quoted, names))}]" for key, names in table.items()
            )
            lines.append(f"{_key(loss)} = {{ {rule} }}")
        return "\n".join(lines) + "\n"


def matches(name: str, pattern: str) -> bool:
    """Say whether ``pattern`` covers ``name``: the name itself, or an fnmatch pattern over it.

    Square brackets are literal where they spell a subscript, as in ``agents[0].*``.
    """
    if name == pattern:
        return True
    if not any(sign in pattern for sign in "*?["):
        return False
    literal = pattern.replace("[", "[[]")
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, literal)


def suggestion(name: str, known: Collection[str]) -> str:
    """Return ``; did you mean `x`?`` if something like ``name`` is known, else nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean `{close[0]}`?" if close else ""


_KEYS = ("only", "must", "may", "never")


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if bare else _quoted(name)


def _quoted(text: str) -> str:
    """Write a text as a basic string of TOML, whose escapes are those of JSON but for one."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _loss(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise PolicyError(f"a policy names losses by text, not by {name!r}")
    return name


def _rule(loss: str, value: object) -> Rule:
    try:
        if isinstance(value, Rule):
            return _saying(value)
        if isinstance(value, str) or not isinstance(value, Mapping):
            return _saying(Rule(only=_names(value)))
        unknown = [key for key in value if key not in _KEYS]
        if unknown:
            raise PolicyError(
                f"unknown key {unknown[0]!r}{suggestion(str(unknown[0]), _KEYS)}; "
                "a rule has the keys only, must, may, never"
            )
        rule = Rule()
        for key, names in value.items():
            rule = replace(rule, **{key: _names(names)})
        return _saying(rule)
    except PolicyError as error:
        raise PolicyError(f"the policy for `{loss}`: {error}") from None


def _saying(rule: Rule) -> Rule:
    if rule == Rule():
        raise PolicyError("an empty table says nothing; use only, must, may or never")
    return rule


def _names(value: object) -> frozenset[str]:
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, Iterable) or isinstance(value, Mapping):
        raise PolicyError(
            f"expected model names, got {type(value).__name__}; models are named by text"
        )
    names = list(value)
    for name in names:
        if not isinstance(name, str) or not name:
            shown = repr(name) if isinstance(name, str | int) else f"a {type(name).__name__}"
            raise PolicyError(f"expected a model name, got {shown}; models are named by text")
    return frozenset(names)

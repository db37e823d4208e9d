"""The marker ``gradguard``: its arguments, and the models that they name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gradguard.core.policy import Policy, PolicyError, suggestion

__all__ = ["Declaration", "MarkerError", "fixtures_named", "problem", "resolve"]

_KEYWORDS = ("policy", "models", "on_violation", "every", "strict")
_MODES = ("raise", "warn", "record")
_SHAPE = '@pytest.mark.gradguard(policy={"critic_loss": "critic"}, models=["critic", "generator"])'

Models = dict[str, str] | Callable[[pytest.FixtureRequest], Any]


class MarkerError(ValueError):
    """Raised when a marker has arguments that it does not take."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a marker declares.

    Attributes:
        policy: What each loss may train.
        models: Paths by model name, each a fixture's name with attributes behind it; or a
            function that gets the request and returns models by name.
        options: What else a guard is given.
    """

    policy: Policy
    models: Models
    options: Mapping[str, Any]

    @classmethod
    def of(cls, mark: pytest.Mark, root: Path) -> Declaration:
        """Read the arguments of a marker.

        Args:
            mark: The marker.
            root: Where a relative path to a policy file begins.

        Raises:
            MarkerError: If they are none that the marker takes; the message says what it takes.
        """
        if mark.args:
            raise MarkerError(f"all arguments are keywords: {_SHAPE}")
        for name in mark.kwargs:
            if name not in _KEYWORDS:
                raise MarkerError(
                    f"unknown argument {name!r}{suggestion(name, _KEYWORDS)}; "
                    f"the arguments are: {', '.join(_KEYWORDS)}"
                )
        for name in ("policy", "models"):
            if name not in mark.kwargs:
                raise MarkerError(f"{name}= is missing: {_SHAPE}")
        options = {name: mark.kwargs[name] for name in _KEYWORDS[2:] if name in mark.kwargs}
        _check(options)
        models = _models(mark.kwargs["models"])
        policy = _policy(mark.kwargs["policy"], root)
        if isinstance(models, dict):
            try:
                policy.validate(list(models))
            except PolicyError as error:
                raise MarkerError(str(error)) from None
        return cls(policy, models, options)

    @property
    def fixtures(self) -> tuple[str, ...]:
        """The fixtures that the models are taken from, as far as that is declared."""
        if not isinstance(self.models, dict):
            return ()
        return tuple(dict.fromkeys(path.partition(".")[0] for path in self.models.values()))


def fixtures_named(mark: pytest.Mark) -> tuple[str, ...]:
    """Return the fixtures that a marker takes models from; none if its arguments are wrong."""
    try:
        models = _models(mark.kwargs.get("models"))
    except MarkerError:
        return ()
    return Declaration(Policy({}), models, {}).fixtures


def problem(mark: pytest.Mark, item: pytest.Item) -> str | None:
    """Say what is wrong with the arguments of a test's marker, if anything is."""
    try:
        declared = Declaration.of(mark, item.config.rootpath)
    except MarkerError as error:
        return str(error)
    info = getattr(item, "_fixtureinfo", None)
    if info is None:
        return "only tests that use fixtures can be held to a policy"
    for name in declared.fixtures:
        if name not in info.name2fixturedefs:
            return f"models={name!r}: no such fixture; `pytest --fixtures` lists what there is"
    return None


def resolve(models: Models, request: pytest.FixtureRequest) -> Any:
    """Look up the models of a declaration in the fixtures of a test.

    Args:
        models: The models as declared.
        request: The request of the test.

    Raises:
        MarkerError: If a fixture has no such attribute; the message names the path.
    """
    if not isinstance(models, dict):
        return models(request)
    return {name: _follow(path, request) for name, path in models.items()}


def _follow(path: str, request: pytest.FixtureRequest) -> Any:
    first, *rest = path.split(".")
    found = request.getfixturevalue(first)
    walked = first
    for part in rest:
        if isinstance(found, Mapping) and part in found:
            found = found[part]
        else:
            try:
                found = getattr(found, part)
            except AttributeError:
                raise MarkerError(
                    f"models={path!r}: `{walked}` is a {type(found).__name__} and has no `{part}`"
                    f"{suggestion(part, dir(found))}"
                ) from None
        walked += f".{part}"
    return found


def _check(options: Mapping[str, Any]) -> None:
    mode, every = options.get("on_violation", "raise"), options.get("every", 1)
    if mode not in _MODES:
        raise MarkerError(
            f"on_violation={mode!r}{suggestion(str(mode), _MODES)}; "
            "it is one of 'raise', 'warn', 'record'"
        )
    if type(every) is not int or every < 1:
        raise MarkerError(f"every={every!r}; it counts backwards, so it is a whole number from 1")
    if not isinstance(options.get("strict", False), bool):
        raise MarkerError(f"strict={options['strict']!r}; it is True or False")


def _policy(given: Any, root: Path) -> Policy:
    try:
        policy = (
            Policy.from_toml(root / given) if isinstance(given, str | Path) else Policy.parse(given)
        )
    except PolicyError as error:
        raise MarkerError(str(error)) from None
    if not len(policy):
        raise MarkerError('the policy is empty; write for instance {"critic_loss": "critic"}')
    return policy


def _models(given: Any) -> Models:
    if isinstance(given, str):
        given = [given]
    if isinstance(given, Mapping):
        paths = dict(given)
    elif callable(given):
        return given  # type: ignore[no-any-return]
    elif isinstance(given, Sequence):
        paths = {_text(path): path for path in given}
    else:
        raise MarkerError(_not_models(given))
    if not paths:
        raise MarkerError("models= names no model")
    for name, path in paths.items():
        if not isinstance(name, str) or not name:
            raise MarkerError(f"models are named by text, not by {name!r}")
        if not all(part.isidentifier() for part in _text(path).split(".")):
            raise MarkerError(
                f"models={path!r} is no name of a fixture with attributes, such as 'nets.critic'"
            )
    return paths


def _text(path: Any) -> str:
    if not isinstance(path, str):
        raise MarkerError(_not_models(path))
    return path


def _not_models(given: Any) -> str:
    return (
        f"models= holds a {type(given).__name__}; it takes names of fixtures with attributes, "
        'such as ["nets.critic"] or {"critic": "nets.critic"}, or a function of the request'
    )

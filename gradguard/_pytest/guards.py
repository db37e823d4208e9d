"""The guards of one test: made by the fixture or the marker, judged when its call ends."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradguard
from gradguard.core.findings import Finding, IsolationError
from gradguard.core.policy import Policy
from gradguard.runtime.bound import BoundGuard

__all__ = ["GuardFactory", "Guards"]


class Guards:
    """The guards of one test.

    Attributes:
        verdict: The error that the end of the call has raised, if it has.
    """

    def __init__(self) -> None:
        """Begin with no guard."""
        self._guards: list[BoundGuard] = []
        self._waiting: list[BoundGuard] = []
        self.verdict: IsolationError | None = None

    def factory(self) -> GuardFactory:
        """Return what the fixture gives to the test."""
        return GuardFactory(self)

    def make(self, models: Any, policy: Any, options: Mapping[str, Any]) -> BoundGuard:
        """Make a guard and install it at once."""
        guard = BoundGuard(models, policy, **options)
        self._guards.append(guard)
        return guard.start()

    def await_call(self, models: Any, policy: Any, options: Mapping[str, Any]) -> None:
        """Make a guard that is installed when the call begins."""
        self._waiting.append(BoundGuard(models, policy, **options))

    def begin(self) -> None:
        """Install what waits for the call to begin."""
        while self._waiting:
            guard = self._waiting.pop(0)
            self._guards.append(guard)
            guard.start()

    def conclude(self, error: BaseException | None) -> None:
        """Remove all guards and judge what they have seen.

        Args:
            error: What is on its way already; then nothing is judged.

        Raises:
            IsolationError: With what nobody has been told of.
        """
        found: list[Finding] = []
        for guard in reversed(self._guards):
            found[:0] = guard.conclude(error)
        if found:
            self.verdict = IsolationError(found)
            raise self.verdict

    def drop(self) -> None:
        """Remove guards whose test was never called, judging nothing."""
        for guard in reversed(self._guards):
            with suppress(IsolationError):
                guard.conclude(GeneratorExit())
        self._guards.clear()
        self._waiting.clear()


class GuardFactory:
    """Makes guards that belong to one test: active at once, judged when the test's call ends.

    The fixture has the name of the package, which it hides in a test that uses it. So the public
    names of the package are found here too, as in ``pytest.raises(gradguard.IsolationError)``.

    Args:
        guards: The guards of the test.
    """

    def __init__(self, guards: Guards) -> None:
        """Belong to the test that ``guards`` are of."""
        self._guards = guards

    def __call__(
        self,
        models: Mapping[str, Any],
        policy: Policy | Mapping[str, Any] | str | Path,
        **options: Any,
    ) -> BoundGuard:
        """Make a guard, active from here to the end of the test, or of a ``with`` around it.

        Args:
            models: As for :class:`gradguard.Guard`.
            policy: As for :class:`gradguard.Guard`.
            **options: As for :class:`gradguard.Guard`. With ``on_violation="raise"``, which is
                the default, the test fails where a finding is made; with ``"record"`` it runs to
                its end and fails with all of them; with ``"warn"`` it passes with warnings.
        """
        return self._guards.make(models, policy, options)

    def __getattr__(self, name: str) -> Any:
        """Look a name up in the package that the fixture hides."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(gradguard, name)

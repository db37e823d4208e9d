"""Guards bound to a stretch of a test: active from the start, judged once at its end."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from gradguard.core.findings import Finding, IsolationError, Severity
from gradguard.runtime.guard import Guard

__all__ = ["BoundGuard"]


class BoundGuard(Guard):
    """A guard that somebody else leaves: active from the start, judged once when it is concluded.

    It may be used in a ``with`` statement nevertheless, whose end is then where it is left.

    Args:
        *args: As for :class:`~gradguard.Guard`.
        **options: As for :class:`~gradguard.Guard`.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        """Check models and policy; nothing is installed yet."""
        super().__init__(*args, **options)
        self._mode = options.get("on_violation", "raise")
        self._started = False

    def start(self) -> Self:
        """Install the guard."""
        super().__enter__()
        self._started = True
        return self

    def __enter__(self) -> Self:
        """Take the guard over, or install it once more after it was left."""
        if self._started:
            self._started = False
            return self
        return super().__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the guard and judge what no step has judged, unless an error is on its way."""
        self._started = False
        super().__exit__(kind, error, trace)

    def conclude(self, error: BaseException | None = None) -> list[Finding]:
        """Remove the guard, if it is there still, and judge all that it has seen.

        Args:
            error: What is on its way already; then nothing is judged.

        Returns:
            The findings of severity warning or above that nobody has been told of: with
            ``"raise"`` those that no moment before has raised, with ``"record"`` all of them,
            with ``"warn"`` none, as they are warnings.
        """
        told: list[Finding] = []
        try:
            if self._active:
                self.__exit__(type(error) if error is not None else None, error, None)
            if error is None:
                # A guard inside another one leaves this to the outermost; a bound one has none.
                self._watch.end()
        except IsolationError as last:
            told += last.findings
        if error is not None or self._mode == "warn":
            return []
        if self._mode == "record":
            told = self.findings
        return [finding for finding in told if finding.severity is not Severity.INFO]

"""How a command ends: exit statuses, the error shown in one line, readers that go away."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from typing import IO, Any

import click
from rich.console import Console

__all__ = ["CANNOT_RUN", "CLEAN", "FINDINGS", "INTERRUPTED", "CannotRun", "Output", "any_encoding"]

CLEAN, FINDINGS, CANNOT_RUN, INTERRUPTED = 0, 1, 2, 130


class CannotRun(click.ClickException):
    """Raised when a command cannot do what it was asked to; shown in one line."""

    exit_code = CANNOT_RUN

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the message to standard error."""
        click.echo(f"error: {self.format_message()}", file=file or sys.stderr)


class Output(Console):
    """A console that leaves a closed pipe to whoever runs the command."""

    def on_broken_pipe(self) -> None:
        """Say that nobody reads any more."""
        raise BrokenPipeError


@contextlib.contextmanager
def any_encoding() -> Iterator[None]:
    """Show a character that the terminal's encoding lacks as ``?`` rather than fail."""
    changed = [
        (stream, stream.errors)
        for stream in (sys.stdout, sys.stderr)
        if isinstance(stream, io.TextIOWrapper) and not stream.closed
    ]
    for stream, _ in changed:
        stream.reconfigure(errors="replace")
    try:
        yield
    finally:
        for stream, errors in changed:
            with contextlib.suppress(OSError):
                stream.reconfigure(errors=errors)

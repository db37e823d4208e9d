"""How a command ends: exit statuses, and the error that is shown in one line."""

from __future__ import annotations

import sys
from typing import IO, Any

import click

__all__ = ["CANNOT_RUN", "CLEAN", "FINDINGS", "INTERRUPTED", "CannotRun"]

CLEAN, FINDINGS, CANNOT_RUN, INTERRUPTED = 0, 1, 2, 130


class CannotRun(click.ClickException):
    """Raised when a command cannot do what it was asked to; shown in one line."""

    exit_code = CANNOT_RUN

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the message to standard error."""
        click.echo(f"error: {self.format_message()}", file=file or sys.stderr)

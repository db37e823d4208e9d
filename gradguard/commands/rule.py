"""``gradguard rule``: explain what a code of the catalogue stands for."""

from __future__ import annotations

import json
from typing import Any

import click

from gradguard.commands.status import CannotRun, Output
from gradguard.core.codes import Code, UnknownCode, catalogue, code

__all__ = ["rule"]


@click.command()
@click.argument("wanted", metavar="[CODE]", required=False)
@click.option("--all", "everything", is_flag=True, help="Explain every code.")
@click.option(
    "--output-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="What to write.",
)
def rule(wanted: str | None, everything: bool, output_format: str) -> None:
    """Explain a code of the catalogue, given by code or by name."""
    if everything == (wanted is not None):
        raise click.UsageError("give one CODE, or --all")
    try:
        entries = list(catalogue().values()) if wanted is None else [code(wanted)]
    except UnknownCode as error:
        raise CannotRun(str(error)) from None
    if output_format == "json":
        explained = [_as_data(entry) for entry in entries]
        shown = explained if everything else explained[0]
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    from rich.markdown import Markdown

    console = Output(highlight=False)
    for number, entry in enumerate(entries):
        text = _as_text(entry)
        if console.is_terminal:
            console.print(Markdown(text))
        else:
            click.echo(text if number == 0 else f"\n{text}")


def _as_text(entry: Code) -> str:
    reported = "on by default" if entry.on_by_default else "off by default"
    head = f"# {entry.name} ({entry.code})\n\n{entry.severity}, {reported}"
    return f"{head}\n\n{entry.doc}"


def _as_data(entry: Code) -> dict[str, Any]:
    return {
        "code": entry.code,
        "name": entry.name,
        "severity": str(entry.severity),
        "on_by_default": entry.on_by_default,
        "halves": list(entry.halves),
        "summary": entry.summary,
        "explanation": entry.doc,
    }

"""``gradguard lint``: find in the source what would train the wrong model."""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gradguard.commands.fixing import diff, fix_files, write_atomically
from gradguard.commands.status import CLEAN, FINDINGS, CannotRun, Output
from gradguard.config import Config, ConfigError
from gradguard.core.codes import UnknownCode, catalogue
from gradguard.core.findings import Confidence, Finding, Severity
from gradguard.core.selection import expand
from gradguard.report import FORMATS, Format, render, show

if TYPE_CHECKING:
    from gradguard.lint import Sources

__all__ = ["lint"]

_STDIN = Path("-")


def _words(
    _context: click.Context, _parameter: click.Parameter, given: Sequence[str]
) -> tuple[str, ...]:
    """Split at commas, and refuse what stands for no code."""
    words = tuple(word.strip() for one in given for word in one.split(",") if word.strip())
    for word in words:
        try:
            expand(word)
        except UnknownCode as error:
            raise click.BadParameter(str(error)) from None
    return words


def _patterns(
    _context: click.Context, _parameter: click.Parameter, given: Sequence[str]
) -> tuple[str, ...]:
    """Refuse what is no pattern."""
    from pathspec import GitIgnoreSpec

    for pattern in given:
        try:
            GitIgnoreSpec.from_lines([pattern])
        except ValueError as error:
            raise click.BadParameter(f"`{pattern}` is no pattern: {error}") from None
    return tuple(given)


@click.command()
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--output-format",
    "form",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="What to write.",
)
@click.option(
    "--select",
    "wanted",
    metavar="CODES",
    multiple=True,
    callback=_words,
    help="Codes to report: GG101, GG1, applied-leak, ALL; several with commas.",
)
@click.option(
    "--ignore",
    "unwanted",
    metavar="CODES",
    multiple=True,
    callback=_words,
    help="Codes not to report.",
)
@click.option(
    "--exclude",
    metavar="PATTERN",
    multiple=True,
    callback=_patterns,
    help="Files to leave out, as in .gitignore.",
)
@click.option("--force-exclude", is_flag=True, help="Leave out excluded files even if named.")
@click.option(
    "--min-confidence",
    "confidence",
    type=click.Choice([str(one) for one in Confidence]),
    help="How sure a finding must be.  [default: medium]",
)
@click.option("--show-trace", is_flag=True, help="Show the lines by which the gradient goes.")
@click.option("--fix", is_flag=True, help="Make the changes that are safe.")
@click.option(
    "--unsafe-fixes",
    "unsafe",
    is_flag=True,
    help="With --fix or --diff: also changes after which the training gives other numbers.",
)
@click.option("--diff", "differ", is_flag=True, help="Show what --fix would change, and stop.")
@click.option("--exit-zero", is_flag=True, help="Exit with 0 whatever is found.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="How many processes to use.  [default: one for each processor]",
)
@click.option("--no-cache", is_flag=True, help="Neither use nor keep results of other runs.")
@click.option(
    "--stdin-filename",
    type=click.Path(path_type=Path),
    help="What to call standard input, which `-` reads.",
)
def lint(
    *,
    paths: tuple[Path, ...],
    form: Format,
    wanted: tuple[str, ...],
    unwanted: tuple[str, ...],
    exclude: tuple[str, ...],
    force_exclude: bool,
    confidence: str | None,
    show_trace: bool,
    fix: bool,
    unsafe: bool,
    differ: bool,
    exit_zero: bool,
    jobs: int | None,
    no_cache: bool,
    stdin_filename: Path | None,
) -> int:
    """Find losses that train the wrong model, without running anything.

    PATH is a file, a folder or `-` for standard input; without one it is the working folder.
    Settings are those of [tool.gradguard] in pyproject.toml.

    Exit status: 0 nothing found, 1 findings, 2 could not run.
    """
    del no_cache  # There is no cache yet, and so none to leave alone.

    def overlay(config: Config) -> Config:
        if confidence is not None:
            config = replace(config, min_confidence=Confidence(confidence))
        return config.asking(wanted, unwanted)

    from gradguard.lint import Source, Sources, lint_sources

    _refuse_missing(paths)
    _warn_of_codes_for_live_runs(wanted)
    try:
        if _STDIN in paths:
            if len(paths) > 1:
                raise click.UsageError("`-` is standard input, and goes with no other PATH")
            path = Path(os.path.abspath(stdin_filename or "<stdin>"))  # noqa: PTH100  As given.
            content = sys.stdin.buffer.read()
            _remember(path, content)
            source = Source(path, overlay(Config.find(path.parent)), content)
            sources = Sources(files=[source])
        else:
            sources = Sources.find(
                paths or (Path(),), overlay, exclude=exclude, force_exclude=force_exclude
            )
    except ConfigError as error:
        raise CannotRun(str(error)) from None
    _warn_of_gaps(sources)
    fixes = fix or differ or form in {"json", "sarif"}
    findings = lint_sources(sources, jobs=jobs, fixes=fixes)
    if differ:
        return _show_changes(sources, findings, unsafe=unsafe, exit_zero=exit_zero)
    if fix:
        changed = _changed(sources, findings, unsafe=unsafe)
        sources.files = [
            replace(source, content=changed.get(source.path, source.content))
            if source.content is not None
            else source
            for source in sources.files
        ]
        findings = lint_sources(sources, jobs=jobs, fixes=fixes)
    piped = fix and _STDIN in paths
    if piped:  # Whoever pipes a file through wants it back, and nothing between its lines.
        click.echo(sources.files[0].content or b"", nl=False)
    _write(findings, form, show_trace=show_trace, aside=piped)
    counted = any(finding.severity is not Severity.INFO for finding in findings)
    return FINDINGS if counted and not exit_zero else CLEAN


def _refuse_missing(paths: Sequence[Path]) -> None:
    for path in paths:
        # `Path.exists` raises where a folder on the way may not be entered.
        if path != _STDIN and not os.path.exists(path):  # noqa: PTH110
            raise CannotRun(f"there is no file or folder `{path}`")


def _warn_of_codes_for_live_runs(wanted: Sequence[str]) -> None:
    known = catalogue()
    for word in wanted:
        if not any("lint" in known[code].halves for code in expand(word)):
            _warn(f"{word} shows only when the program runs: `gradguard run` reports it")


def _warn_of_gaps(sources: Sources) -> None:
    for path in sources.notebooks:
        _warn(f"{path} is left out: notebooks are not linted yet")
    if not sources.files and not sources.unreadable:
        _warn("no Python files found under the given paths")


def _warn(message: str) -> None:
    click.echo(f"warning: {message}", err=True)


def _remember(path: Path, content: bytes) -> None:
    """Let excerpts of standard input be shown as those of files are."""
    lines = content.decode("utf-8", "replace").splitlines(keepends=True)
    linecache.cache[str(path)] = (len(content), None, lines, str(path))


def _show_changes(
    sources: Sources, findings: Sequence[Finding], *, unsafe: bool, exit_zero: bool
) -> int:
    """Print what would be changed."""
    found = False
    for fixed in fix_files(sources, findings, unsafe=unsafe):
        found = True
        # A line that ends in carriage return and line feed is shown as it is.
        text = diff(fixed, os.path.relpath(fixed.path))
        click.echo(text.encode("utf-8", "surrogateescape"), nl=False)
    return FINDINGS if found and not exit_zero else CLEAN


def _changed(sources: Sources, findings: Sequence[Finding], *, unsafe: bool) -> dict[Path, bytes]:
    """Change files, and return what each of those that were changed holds now."""
    held = {source.path: source.content for source in sources.files}
    changed: dict[Path, bytes] = {}
    count = 0
    for fixed in fix_files(sources, findings, unsafe=unsafe):
        if held[fixed.path] is None:
            try:
                write_atomically(fixed.path, fixed.content)
            except OSError as error:
                raise CannotRun(
                    f"{fixed.path} cannot be written: {error.strerror or error}"
                ) from None
            linecache.checkcache(str(fixed.path))
        else:
            _remember(fixed.path, fixed.content)
        changed[fixed.path] = fixed.content
        count += fixed.count
    if count:
        files = f"{len(changed)} file{'s' * (len(changed) > 1)}"
        click.echo(f"fixed {count} finding{'s' * (count > 1)} in {files}", err=True)
    return changed


def _write(findings: Sequence[Finding], form: Format, *, show_trace: bool, aside: bool) -> None:
    if form != "text":
        click.echo(render(findings, format=form), nl=False, err=aside)
        return
    shown = findings if show_trace else [replace(finding, trace=()) for finding in findings]
    show(shown, console=Output(highlight=False, stderr=aside))

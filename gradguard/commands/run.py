"""``gradguard run``: observe an unmodified training program, and report what it did."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradguard.commands.ending import clean_thread_errors, conclude, interrupt
from gradguard.commands.imports import when_imported
from gradguard.commands.program import Program
from gradguard.commands.status import CANNOT_RUN, CLEAN, FINDINGS, CannotRun, Output, any_encoding
from gradguard.config import Config, ConfigError
from gradguard.core.findings import Finding, Severity
from gradguard.core.merging import merged
from gradguard.core.policy import Policy, PolicyError
from gradguard.core.suppressions import unsilenced
from gradguard.report import FORMATS, Format, render, show

if TYPE_CHECKING:
    from gradguard.runtime.observe.story import Story

__all__ = ["run"]

_FAILS = {
    "error": (Severity.ERROR,),
    "warning": (Severity.ERROR, Severity.WARNING),
    "never": (),
}


def _to_write(
    _context: click.Context, parameter: click.Parameter, path: Path | None
) -> Path | None:
    """Refuse a file that cannot be written, before the program has run for hours."""
    if path is None:
        return None
    folder = path.absolute().parent
    if not folder.is_dir():
        raise CannotRun(f"{parameter.opts[0]}: there is no folder `{path.parent}`")
    if path.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise CannotRun(f"{parameter.opts[0]}: `{path}` cannot be written")
    # The program may change the working folder.
    return path.absolute()


def _patterns(
    _context: click.Context, parameter: click.Parameter, given: Sequence[str]
) -> tuple[str, ...]:
    """Refuse what is no pattern."""
    if given:
        from pathspec import GitIgnoreSpec

        try:
            GitIgnoreSpec.from_lines(given)
        except ValueError as error:
            raise CannotRun(f"{parameter.opts[0]}: {error}") from None
    return tuple(given)


class _OneLine(click.Command):
    """A command whose complaints about its use are one line each, as all others of it."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the command line."""
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            told = " ".join(error.format_message().split())
            raise CannotRun(f"{told} See `gradguard run --help`.") from None


@click.command(cls=_OneLine, context_settings={"allow_interspersed_args": False})
@click.option("-m", "module", is_flag=True, help="TARGET is the name of a module.")
@click.option(
    "--output-format",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="What to write.",
)
@click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path),
    callback=_to_write,
    help="Also write a page.",
)
@click.option(
    "--fail-on",
    type=click.Choice(list(_FAILS)),
    default="error",
    show_default=True,
    help="From which severity on findings make the exit status 1.",
)
@click.option(
    "--policy",
    "policy_file",
    type=click.Path(path_type=Path),
    help="What each loss may train; `[tool.gradguard.policy]` by default.",
)
@click.option(
    "--write-policy",
    type=click.Path(path_type=Path),
    callback=_to_write,
    help="Write what was seen as a policy to review.",
)
@click.option("--steps", type=click.IntRange(min=1), help="Stop observing after so many steps.")
@click.option(
    "--every", type=click.IntRange(min=1), default=1, help="Read every n-th backward of each call."
)
@click.option(
    "--include",
    multiple=True,
    callback=_patterns,
    help="Report only on files that match a pattern, as in .gitignore.",
)
@click.option(
    "--exclude",
    multiple=True,
    callback=_patterns,
    help="Report nothing on files that match a pattern.",
)
@click.argument("target")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(
    target: str,
    arguments: Sequence[str],
    *,
    module: bool,
    output_format: Format,
    page: Path | None,
    fail_on: str,
    policy_file: Path | None,
    write_policy: Path | None,
    steps: int | None,
    every: int,
    include: Sequence[str],
    exclude: Sequence[str],
) -> int:
    """Run a training program unchanged, and report which loss trains which model.

    Everything behind TARGET is for the program. Exit status: the program's own if it failed;
    else 2 if a declared name was never seen, 1 if there are findings of the severity that
    --fail-on names, 0 otherwise.
    """
    here = Path.cwd()
    try:
        config = Config.find(here)
        policy = Policy.from_toml(policy_file) if policy_file is not None else config.policy
    except (ConfigError, PolicyError) as error:
        raise CannotRun(str(error)) from None
    if page is not None:
        import jinja2  # noqa: F401  Before the program runs for hours.
    program = Program(target, list(arguments), module=module)
    watch = _Watch(policy, every=every, steps=steps)
    process, out, blank = os.getpid(), sys.stdout, _written_so_far()
    when_imported("torch", watch.begin)
    with clean_thread_errors():
        ended = program.run()
        failed = conclude(ended)
    if os.getpid() != process:
        return failed
    sys.stdout = out
    with any_encoding():
        if watch.began or output_format != "text":
            _apart(blank)
        status = watch.end(cut=ended is not None and not isinstance(ended, SystemExit))
        story = watch.story
        findings = _shown(story.findings if story else [], config, _Scope(here, include, exclude))
        _report(findings, story, output_format)
        _save(findings, story, page, write_policy)
        if any(finding.severity in _FAILS[fail_on] for finding in findings):
            status = status or FINDINGS
        if story is not None and story.unresolved:
            _explain(story)
            status = CANNOT_RUN
        sys.stdout.flush()
    if isinstance(ended, KeyboardInterrupt):
        interrupt()
    return failed or status


class _Watch:
    """Observes what the program does with torch, from where it imports it to the end."""

    def __init__(self, policy: Policy | None, *, every: int, steps: int | None) -> None:
        self._policy, self._every, self._steps = policy, every, steps
        self._observer: Any = None
        self._trouble: str | None = None
        self.story: Story | None = None

    def begin(self) -> None:
        try:
            from gradguard.runtime.observe import Observer
            from gradguard.runtime.observe.declared import Declared

            observer = Observer(Declared(self._policy), every=self._every, steps=self._steps)
            observer.begin()
        except Exception as error:  # noqa: BLE001  The program must not fail by it.
            self._trouble = f"{type(error).__name__}: {error}"
            return
        # A child process goes its own way, and nobody would read what it is seen to do.
        os.register_at_fork(after_in_child=observer.abandon)
        self._observer = observer

    @property
    def began(self) -> bool:
        """Whether there was anything to observe."""
        return self._observer is not None

    def end(self, *, cut: bool) -> int:
        """Conclude, and return the exit status that a failure to observe asks for.

        Args:
            cut: Whether the program was stopped short.
        """
        observer = self._observer
        if self._trouble is not None:
            return self._failed()
        if observer is None:
            _note("the program did not import torch: nothing was observed")
            return CLEAN
        from gradguard.runtime.observe.story import tell

        observer.end(cut=cut)
        self._trouble = observer.failure
        try:
            self.story = tell(observer)
        except Exception as error:  # noqa: BLE001  What the program did stands.
            self._trouble = f"{type(error).__name__}: {error}"
        if self._trouble is not None:
            return self._failed()
        if not observer.reader.passages:
            _note("no backward pass was seen in this process; child processes are not observed")
        return CLEAN

    def _failed(self) -> int:
        _note(f"observing failed and was stopped: {self._trouble}; please report this")
        return CANNOT_RUN


class _Scope:
    """The files that findings are wanted of."""

    def __init__(self, root: Path, include: Sequence[str], exclude: Sequence[str]) -> None:
        from pathspec import GitIgnoreSpec

        self._root = root
        self._include = GitIgnoreSpec.from_lines(include) if include else None
        self._exclude = GitIgnoreSpec.from_lines(exclude) if exclude else None

    def __contains__(self, filename: str) -> bool:
        name = os.path.relpath(filename, self._root)
        return (self._include is None or self._include.match_file(name)) and not (
            self._exclude is not None and self._exclude.match_file(name)
        )


def _shown(findings: Sequence[Finding], config: Config, scope: _Scope) -> list[Finding]:
    ranks = list(Severity)
    kept = [
        finding
        for finding in merged(unsilenced(findings))
        if finding.code in config.codes_for(Path(finding.filename)) and finding.filename in scope
    ]
    return sorted(kept, key=lambda finding: ranks.index(finding.severity))


def _report(findings: list[Finding], story: Story | None, output_format: Format) -> None:
    matrix = story.matrix if story is not None else None
    if output_format != "text":
        click.echo(render(findings, format=output_format, matrix=matrix), nl=False)
    elif story is not None:
        show(findings, matrix=matrix, console=Output(highlight=False))


def _save(
    findings: list[Finding], story: Story | None, page: Path | None, policy: Path | None
) -> None:
    matrix = story.matrix if story is not None else None
    from gradguard.report import html, save

    if page is not None:
        timeline, figures = (story.timeline, story.figures) if story is not None else (None, {})
        save(page, html(findings, matrix=matrix, timeline=timeline, figures=figures))
    if policy is not None:
        save(policy, (matrix.to_policy() if matrix is not None else Policy({})).to_toml())


def _written_so_far() -> int | None:
    """Return how much there is in standard output, where it is a file."""
    try:
        return os.lseek(1, 0, os.SEEK_CUR)
    except OSError:
        return None


def _apart(before: int | None) -> None:
    """Set the report apart from what the program wrote, which may not have ended its line."""
    sys.stdout.flush()
    if before is None or _written_so_far() != before:
        click.echo()


def _note(text: str) -> None:
    click.echo(f"gradguard: {text}", err=True)


def _explain(story: Story) -> None:
    names = ", ".join(f"`{name}`" for name in story.unresolved)
    losses = ", ".join(f"`{name}`" for name in story.losses) or "none"
    models = ", ".join(f"`{name}`" for name in story.models) or "none"
    click.echo(
        f"error: the policy names {names}, which the run never saw; losses and terms were: "
        f"{losses}; models were: {models}",
        err=True,
    )

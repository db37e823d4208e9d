"""``gradguard run``: observe an unmodified training program, and report what it did."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from gradguard.commands.program import Program, conclude, interrupt, when_imported
from gradguard.commands.status import CANNOT_RUN, CLEAN, FINDINGS, CannotRun, Output
from gradguard.config import Config, ConfigError
from gradguard.core.findings import Finding, Severity
from gradguard.core.merging import merged
from gradguard.core.policy import Policy, PolicyError
from gradguard.core.suppressions import unsilenced
from gradguard.report import FORMATS, Format, render, show

__all__ = ["run"]

_FAILS = {
    "error": (Severity.ERROR,),
    "warning": (Severity.ERROR, Severity.WARNING),
    "never": (),
}


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("-m", "module", is_flag=True, help="TARGET is the name of a module.")
@click.option(
    "--output-format",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="What to write.",
)
@click.option(
    "--html", "page", type=click.Path(dir_okay=False, path_type=Path), help="Also write a page."
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
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What each loss may train; `[tool.gradguard.policy]` by default.",
)
@click.option(
    "--write-policy",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write what was seen as a policy to review.",
)
@click.option("--steps", type=click.IntRange(min=1), help="Stop observing after so many steps.")
@click.option(
    "--every", type=click.IntRange(min=1), default=1, help="Read every n-th backward of each call."
)
@click.option("--include", multiple=True, help="Report only on files that match a pattern.")
@click.option("--exclude", multiple=True, help="Report nothing on files that match a pattern.")
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

    Exit status: the program's own if it failed; else 1 if there are findings of the severity
    that --fail-on names, 2 if a declared name was never seen, 0 otherwise.
    """
    try:
        config = Config.find(Path.cwd())
        policy = Policy.from_toml(policy_file) if policy_file is not None else config.policy
    except (ConfigError, PolicyError) as error:
        raise CannotRun(str(error)) from None
    program = Program(target, list(arguments), module=module)
    process, out = os.getpid(), sys.stdout
    observers: list[Any] = []

    def observe() -> None:
        from gradguard.runtime.observe import Observer
        from gradguard.runtime.observe.declared import Declared

        observer = Observer(Declared(policy), every=every, steps=steps)
        observer.begin()
        observers.append(observer)

    when_imported("torch", observe)
    ended = program.run()
    failed = conclude(ended)
    if os.getpid() != process:
        return failed
    sys.stdout = out
    status = CLEAN
    if observers:
        from gradguard.runtime.observe.story import tell

        observer = observers[0]
        observer.end()
        story = tell(observer)
        findings = _shown(story.findings, config, include, exclude)
        _report(findings, story, output_format, page)
        if write_policy is not None and story.matrix is not None:
            _write(write_policy, story.policy)
        if any(finding.severity in _FAILS[fail_on] for finding in findings):
            status = FINDINGS
        if story.unresolved:
            _explain(story)
            status = CANNOT_RUN
    elif output_format != "text":
        click.echo(render([], format=output_format), nl=False)
    else:
        click.echo("gradguard: the program did not import torch", err=True)
    if isinstance(ended, KeyboardInterrupt):
        sys.stdout.flush()
        interrupt()
    return failed or status


def _shown(
    findings: Sequence[Finding], config: Config, include: Sequence[str], exclude: Sequence[str]
) -> list[Finding]:
    from pathspec import GitIgnoreSpec

    def inside(patterns: Sequence[str], finding: Finding) -> bool:
        path = Path(finding.filename)
        name = os.path.relpath(path) if path.is_absolute() else str(path)
        return GitIgnoreSpec.from_lines(patterns).match_file(name)

    ranks = list(Severity)
    kept = [
        finding
        for finding in merged(unsilenced(findings))
        if finding.code in config.codes_for(Path(finding.filename))
        and (not include or inside(include, finding))
        and not (exclude and inside(exclude, finding))
    ]
    return sorted(kept, key=lambda finding: ranks.index(finding.severity))


def _report(findings: list[Finding], story: Any, output_format: Format, page: Path | None) -> None:
    if output_format == "text":
        show(findings, matrix=story.matrix, console=Output(highlight=False))
    else:
        click.echo(render(findings, format=output_format, matrix=story.matrix), nl=False)
    if page is not None:
        from gradguard.report import html, save

        save(page, html(findings, matrix=story.matrix, timeline=story.timeline))


def _write(path: Path, policy: Policy) -> None:
    lines = ["[policy]"]
    for loss, rule in policy.to_dict().items():
        parts = ", ".join(
            f"{key} = [{', '.join(_quoted(name) for name in names)}]"
            for key, names in rule.items()
            if names
        )
        if parts:
            lines.append(f"{_quoted(loss)} = {{ {parts} }}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _explain(story: Any) -> None:
    names = ", ".join(f"`{name}`" for name in story.unresolved)
    losses = ", ".join(f"`{name}`" for name in story.losses) or "none"
    models = ", ".join(f"`{name}`" for name in story.models) or "none"
    click.echo(
        f"error: the policy names {names}, which the run never saw; losses and terms were: "
        f"{losses}; models were: {models}",
        err=True,
    )

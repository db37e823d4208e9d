"""The option ``--gradguard``: every test is observed, and what was seen is told at the end."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gradguard._pytest.failures import VERDICT
from gradguard._pytest.section import section, write
from gradguard._pytest.seen import Seen, Summary
from gradguard.commands.imports import when_imported
from gradguard.config import Config, ConfigError
from gradguard.core.findings import Finding, IsolationError, Severity
from gradguard.core.flow import FlowMatrix
from gradguard.core.merging import merged
from gradguard.core.suppressions import unsilenced
from gradguard.report import html, save

if TYPE_CHECKING:
    from gradguard._pytest.guards import Guards
    from gradguard.runtime.observe import Observer

__all__ = ["Watching"]

_SEEN = pytest.StashKey[Seen]()
_NOTHING = FlowMatrix((), (), {})


class Watching:
    """Observes the calls of all tests of a session.

    Args:
        config: Of the session.
        strict: Whether findings of severity warning or above fail a test.
        report: Where to write a report, whose suffix says which: ``.html`` or ``.json``.
        guards: The key under which a test has its guards.

    Raises:
        pytest.UsageError: If the settings cannot be read, or there is no such report.
    """

    def __init__(
        self,
        config: pytest.Config,
        *,
        strict: bool,
        report: str | None,
        guards: pytest.StashKey[Guards],
    ) -> None:
        """Read the settings; nothing is observed yet."""
        self._strict = strict
        self._report = _report_path(config, report) if report else None
        self._guards = guards
        self._is_worker = hasattr(config, "workerinput")
        self._seen: dict[str, Seen] = {}
        self._observer: Observer | None = None
        self._running = False
        self._trouble: str | None = None
        self._unwritten: str | None = None
        try:
            self._settings = Config.find(config.rootpath)
        except ConfigError as error:
            raise pytest.UsageError(f"--gradguard: {error}") from None
        when_imported("torch", self._torch_came)

    # Observing

    def _torch_came(self) -> None:
        """Begin in the middle of the test that is the first to import torch."""
        if self._running:
            self._begin()

    def _begin(self) -> None:
        try:
            from gradguard.runtime.observe import Observer
            from gradguard.runtime.observe.declared import Declared

            self._observer = Observer(Declared(self._settings.policy))
            self._observer.begin()
        except Exception as error:  # noqa: BLE001  A mistake of ours must not fail a test.
            self._trouble = _named(error)

    def _end(self) -> Observer | None:
        self._running = False
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.end()
        return observer

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Observe the call of a test, and fail it if that is asked for and it does not yet."""
        self._running, self._trouble = True, None
        if "torch" in sys.modules:
            self._begin()
        try:
            result = yield
        except (KeyboardInterrupt, SystemExit, pytest.exit.Exception):
            self._end()
            raise
        except BaseException as error:
            self._judge(item, self._end(), error)
            raise
        # Where it is unittest that runs a test, this is how its failures are known.
        failed = next((info.value for info in getattr(item, "_excinfo", None) or ()), None)
        seen = self._judge(item, self._end(), failed)
        due = [finding for finding in seen if finding.severity is not Severity.INFO]
        if due and self._strict and failed is None:
            item.stash[_SEEN] = replace(item.stash[_SEEN], fails=True)
            item.stash[VERDICT] = verdict = IsolationError(due)
            raise verdict
        return result

    def _judge(
        self, item: pytest.Item, observer: Observer | None, error: BaseException | None
    ) -> tuple[Finding, ...]:
        """Take down what a test did, and return what was found.

        Where a guard was active, what the test wants is declared: the guard judges, nothing else.
        """
        told = error.findings if isinstance(error, IsolationError) else ()
        if observer is None and self._trouble is not None:
            seen = Seen(_NOTHING, trouble=self._trouble)
        elif observer is None or not (observer.reader.passages or observer.failure or told):
            return ()
        else:
            seen = self._view(observer)
            if observer.guarded or self._guards in item.stash:
                seen = replace(seen, findings=())
        if told:
            seen = replace(seen, findings=told, fails=True)
        item.stash[_SEEN] = seen
        return seen.findings

    def _view(self, observer: Observer) -> Seen:
        from gradguard.runtime.observe.story import tell

        if observer.failure is not None:
            # What was seen up to there may be less than half of the story.
            return Seen(_NOTHING, trouble=observer.failure)
        try:
            story = tell(observer)
            kept = [
                finding
                for finding in merged(unsilenced(story.findings))
                if finding.code in self._settings.codes_for(Path(finding.filename))
            ]
        except Exception as error:  # noqa: BLE001  A mistake of ours must not fail a test.
            return Seen(_NOTHING, trouble=_named(error))
        shows = self._report is not None and self._report.suffix == ".html"
        timeline = story.timeline if shows else None
        return Seen(story.matrix or _NOTHING, tuple(kept), timeline=timeline)

    # Telling

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Let the report of a test carry what was seen, wherever it goes."""
        report = yield
        seen = item.stash.get(_SEEN, None)
        if call.when == "call" and seen is not None:
            del item.stash[_SEEN]
            if seen.fails and not report.failed:
                # It was expected to fail like this.
                seen = replace(seen, findings=(), fails=False)
            report.gradguard = seen.pack()  # type: ignore[attr-defined]
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect what was seen, in this process or another."""
        packed = getattr(report, "gradguard", None)
        if packed is not None and not self._is_worker:
            self._seen[report.nodeid] = Seen.unpack(packed)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the report."""
        if self._report is None or self._is_worker:
            return
        try:
            save(self._report, self._written(Summary(self._seen), self._report.suffix))
        except OSError as error:
            self._unwritten = f"the report could not be written: {error}"
            if session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.USAGE_ERROR

    def _written(self, summary: Summary, suffix: str) -> str:
        if suffix == ".json":
            return json.dumps(summary.to_dict(), indent=2) + "\n"
        test, timeline = summary.example or (None, None)
        return html(
            summary.findings,
            timeline=timeline,
            timeline_of=test,
            matrix=summary.matrix if summary.matrix.losses else None,
            figures={"tests that ran backward": len(summary.tests)},
            unknown=[(f"what {test} does", reason) for test, reason in summary.troubles],
            tests=[told.tests for told in summary.told],
            title="gradguard: what the tests train",
        )

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the section."""
        if self._is_worker:
            return
        writer = terminalreporter._tw  # noqa: SLF001  What pytest itself and its plugins write to.
        width = writer.fullwidth if terminalreporter.isatty else None
        terminalreporter.section("gradguard", "=")
        write(writer, section(Summary(self._seen), width, ascii_only=_is_ascii(writer)))
        if self._unwritten is not None:
            writer.line(self._unwritten, red=True)
        elif self._report is not None:
            writer.line(f"report: {self._report}")


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _report_path(config: pytest.Config, name: str) -> Path:
    path = config.invocation_params.dir / name
    if path.suffix not in (".html", ".json"):
        raise pytest.UsageError(f"--gradguard-report={name}: the file ends in .html or .json")
    if path.suffix == ".html":
        try:
            import jinja2  # noqa: F401  Whether it is there is asked before the tests, not after.
        except ImportError:
            raise pytest.UsageError(
                f"--gradguard-report={name}: a page needs Jinja2: pip install 'gradguard[report]'"
            ) from None
    return path


def _is_ascii(writer: Any) -> bool:
    encoding = getattr(getattr(writer, "_file", None), "encoding", None) or "utf-8"
    try:
        "●✗…".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return True
    return False

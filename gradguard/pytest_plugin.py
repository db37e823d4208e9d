"""The pytest plugin: the fixture, the marker and the option ``gradguard``.

Loading it loads neither torch nor anything else of gradguard; what a test uses is loaded then.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gradguard._pytest.guards import GuardFactory, Guards

__all__: list[str] = []

_GUARDS = pytest.StashKey["Guards"]()
_MARKER = (
    "gradguard(policy, models, on_violation='raise', every=1, strict=False): hold the test to a "
    "policy; models are names of fixtures with attributes, or a function of the request"
)
_MARKED = "_gradguard_marked"


_MODES = ("observe", "strict", "off")
_OPTION = (
    "watch every test that runs backward and tell at the end which loss trains which model; "
    "with `strict`, findings of severity warning or above fail the test"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the option, and the setting that stands for it."""
    group = parser.getgroup("gradguard", "isolation between models")
    group.addoption(
        "--gradguard",
        nargs="?",
        const="observe",
        type=_mode,
        metavar="observe|strict|off",
        help=f"{_OPTION}.",
    )
    group.addoption(
        "--gradguard-report",
        metavar="FILE",
        help="also write what `--gradguard` tells, to a file that ends in .html or .json.",
    )
    parser.addini("gradguard", f"{_OPTION}: observe, strict or off.", default="off")


def _mode(text: str) -> str:
    if text not in _MODES:
        import argparse

        told = f"is one of {', '.join(_MODES)}, not {text!r}"
        if Path(text.partition("::")[0]).exists():
            told += f"; with a path behind it, write `--gradguard=observe {text}`"
        raise argparse.ArgumentTypeError(told)
    return text


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and what watches the tests if that is asked for."""
    config.addinivalue_line("markers", _MARKER)
    report = config.getoption("gradguard_report")
    mode = config.getoption("gradguard")
    if mode is None:
        mode = config.getini("gradguard").strip() or "off"
        if mode not in _MODES:
            raise pytest.UsageError(f"gradguard = {mode!r}: it is one of {', '.join(_MODES)}")
        if report and mode == "off":
            mode = "observe"
    if mode != "off":
        from gradguard._pytest.watching import Watching

        watching = Watching(config, strict=mode == "strict", report=report, guards=_GUARDS)
        config.pluginmanager.register(watching, "gradguard-watching")


# The fixture


def _guards(item: Any) -> Guards:
    """Return the guards of a test, loading torch for the first."""
    try:
        from gradguard._pytest.guards import Guards
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "torch":
            raise
        told = "a guard needs PyTorch: pip install 'gradguard[torch]'"
        raise ImportError(told, name="torch") from None
    found: Guards = item.stash.setdefault(_GUARDS, Guards())
    return found


@pytest.fixture
def gradguard(request: pytest.FixtureRequest) -> Iterator[GuardFactory]:
    """Make guards bound to the test: ``gradguard(models, policy, **options)``."""
    guards = _guards(request.node)
    yield guards.factory()
    guards.drop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Judge the guards of a test when its call ends, so that findings fail it."""
    guards = item.stash.get(_GUARDS, None)
    if guards is None:
        return (yield)
    guards.begin()
    try:
        result = yield
    except BaseException as error:
        guards.conclude(error)
        raise
    try:
        guards.conclude(None)
    finally:
        if guards.verdict is not None:
            from gradguard._pytest.failures import VERDICT

            item.stash[VERDICT] = guards.verdict
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show findings that fail a test by their own trace."""
    report = yield
    unused = "gradguard.core.findings" not in sys.modules
    if unused or call.excinfo is None or not report.failed:
        return report
    from gradguard._pytest.failures import show

    show(item, call.excinfo, report)
    return report


# The marker


@pytest.fixture
def _gradguard_marked(request: pytest.FixtureRequest) -> Iterator[None]:
    from gradguard._pytest.marks import Declaration, MarkerError, resolve

    guards = _guards(request.node)
    declared = Declaration.of(request.node.get_closest_marker("gradguard"), request.config.rootpath)
    try:
        models = resolve(declared.models, request)
    except MarkerError as error:
        raise _wrong(error) from None
    try:
        guards.await_call(models, declared.policy, declared.options)
    except (ValueError, TypeError) as error:
        raise _wrong(error) from None
    yield
    guards.drop()


def _wrong(error: Exception) -> BaseException:
    """Make the failure of a test whose marker cannot be followed."""
    return pytest.fail.Exception(f"@pytest.mark.gradguard: {error}", pytrace=False)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Module | pytest.Class, obj: object) -> None:
    """Let marked tests use the fixtures that their models come from.

    That has to be known before the tests are made, for fixtures that are parametrised.
    """
    for node in collector.listchain():
        names = _wanted(node.own_markers)
        if names:
            node.add_marker(pytest.mark.usefixtures(*names))
    held: list[object] = [obj]
    if inspect.isclass(obj):
        held = [*obj.__mro__, *(value for base in obj.__mro__ for value in vars(base).values())]
    for one in held:
        if inspect.isclass(one) or inspect.isfunction(one):
            marks = vars(one).get("pytestmark", [])
            names = _wanted(marks if isinstance(marks, list) else [marks])
            if names:
                pytest.mark.usefixtures(*names)(one)


def _wanted(marks: list[Any]) -> list[str]:
    """Return the fixtures that ``marks`` ask for and do not use already."""
    marks = [getattr(mark, "mark", mark) for mark in marks]
    ours = [mark for mark in marks if mark.name == "gradguard"]
    if not ours:
        return []
    from gradguard._pytest.marks import fixtures_named

    used = {name for mark in marks if mark.name == "usefixtures" for name in mark.args}
    wanted = [*fixtures_named(ours[-1]), _MARKED]
    return [name for name in wanted if name not in used]


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,  # noqa: ARG001  pluggy passes arguments by name.
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Reject tests whose marker has wrong arguments, where they are collected."""
    report = yield
    wrong: dict[str, None] = {}
    for item in report.result if report.passed else ():
        if not isinstance(item, pytest.Item):
            continue
        mark = item.get_closest_marker("gradguard")
        if mark is not None:
            from gradguard._pytest.marks import problem

            told = problem(mark, item)
            if told is not None:
                name = item.nodeid.partition("[")[0]
                wrong[f"{name}: @pytest.mark.gradguard: {told}"] = None
    if wrong:
        report.outcome, report.result = "failed", []
        report.longrepr = "\n".join(wrong)
    return report

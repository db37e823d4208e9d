"""The pytest plugin: the fixture and the marker ``gradguard``.

Loading it loads neither torch nor anything else of gradguard; what a test uses is loaded then.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Generator, Iterator
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


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", _MARKER)


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
    guards.conclude(None)
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

    guards = item.stash.get(_GUARDS, None)
    verdict = guards is not None and guards.verdict is call.excinfo.value
    show(item, call.excinfo, report, verdict=verdict)
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

"""The fixture ``gradguard``: findings fail the test, in its call, once, with their trace."""

from __future__ import annotations

import pytest
from plugin_support import Project

pytest_plugins = ["pytester"]

TRACE = [
    "*GG101 `critic_loss` reaches `generator`, which it does not train",
    "*fake = self.generator(torch.ones(4, 3))*`generator`'s output, carries gradient",
    "*critic_loss.backward()*2 of 2 `generator` parameters receive gradient",
    "*= help: *",
]


def test_a_leak_fails_the_test_at_its_backward_and_says_so_in_the_summary(
    project: Project,
) -> None:
    """Failed, not error; the traceback ends at the backward; the summary names the finding."""
    project.write("""
def test_step(gradguard, nets):
    gradguard(nets.models(), POLICY)
    nets.train(leak=True)
""")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([">*critic_loss.backward()", *(f"E{line}" for line in TRACE)])
    result.stdout.no_fnmatch_line("*_engine_run_backward*")
    result.stdout.fnmatch_lines(["FAILED test_nets.py::test_step - GG101 `critic_loss` *"])


def test_a_clean_test_passes_and_its_guard_can_be_asked(project: Project) -> None:
    """The factory returns a Guard that has seen the test's backward passes."""
    project.write("""
def test_step(gradguard, nets):
    guard = gradguard(nets.models(), POLICY)
    nets.train(leak=False)
    assert guard.findings == []
    assert guard.flow["critic_loss", "critic"] is gradguard.Reach.REACHED
""")
    project.run().assert_outcomes(passed=1)


def test_recorded_findings_fail_the_test_when_its_call_ends(project: Project) -> None:
    """The test runs to its end, then fails once with all findings and no traceback."""
    project.write("""
def test_step(gradguard, nets):
    guard = gradguard(nets.models(), POLICY, on_violation="record")
    nets.train(leak=True)
    print("came to the end")
""")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([*TRACE, "*came to the end*"])
    result.stdout.no_fnmatch_line("*_callers.py*")
    result.stdout.no_fnmatch_line(">*")
    assert result.stdout.str().count("GG101") == 2  # in the failure and in the summary


def test_a_model_that_is_starved_fails_the_test_at_its_end(project: Project) -> None:
    """What can be judged at the end only is judged in the call phase, not at teardown."""
    project.write("""
def test_step(gradguard, nets):
    gradguard(nets.models(), {"critic_loss": ["critic", "generator"]})
    nets.train(leak=False)
""")
    result = project.run()
    result.assert_outcomes(failed=1, errors=0)
    result.stdout.fnmatch_lines(
        ["FAILED *GG301 `critic_loss` does not reach `generator`, which it must train*"]
    )


def test_a_warning_guard_lets_the_test_pass_with_a_warning(project: Project) -> None:
    """``on_violation="warn"`` ends up in the summary of warnings."""
    project.write("""
def test_step(gradguard, nets):
    gradguard(nets.models(), POLICY, on_violation="warn")
    nets.train(leak=True)
""")
    result = project.run("-W", "default")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*IsolationWarning*", "*GG101*"])


def test_a_warning_that_is_an_error_ends_at_the_backward_as_well(project: Project) -> None:
    """Where warnings are errors, the failure shows the same lines and no frame of the guard."""
    project.write("""
def test_step(gradguard, nets):
    gradguard(nets.models(), POLICY, on_violation="warn")
    nets.train(leak=True)
""")
    result = project.run("-W", "error")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([">*critic_loss.backward()", *(f"E{line}" for line in TRACE)])
    result.stdout.fnmatch_lines(["FAILED *GG101 `critic_loss` reaches *"])


@pytest.mark.parametrize("mode", ["raise", "record"])
def test_an_expected_leak_is_no_failure(project: Project, mode: str) -> None:
    """``pytest.raises`` takes what is raised; a mark ``xfail`` takes what the end raises as well.

    The fixture hides the package in the test, so the names of the package are found on it.
    """
    project.write(f"""
def test_raises(gradguard, nets):
    gradguard(nets.models(), POLICY)
    with pytest.raises(gradguard.IsolationError, match="GG101") as caught:
        nets.train(leak=True)
    assert [finding.code for finding in caught.value.findings] == ["GG101"]

from gradguard import IsolationError

@pytest.mark.xfail(raises=IsolationError, strict=True)
def test_xfail(gradguard, nets):
    gradguard(nets.models(), POLICY, on_violation={mode!r})
    nets.train(leak=True)
""")
    project.run().assert_outcomes(passed=1, xfailed=1)


def test_an_error_of_the_test_itself_is_what_is_shown(project: Project) -> None:
    """Findings never replace an exception that is on its way."""
    project.write("""
def test_step(gradguard, nets):
    gradguard(nets.models(), POLICY, on_violation="record")
    nets.train(leak=True)
    assert 1 == 2
""")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*assert 1 == 2"])
    result.stdout.no_fnmatch_line("*GG101*")


def test_a_program_that_lies_beside_the_package_is_shown_as_any_other(project: Project) -> None:
    """The trace of a failure ends in it, though its path begins as ours does."""
    project.write("""
from pathlib import Path
import gradguard as package

def test_step(gradguard, nets):
    gradguard(nets.models(), POLICY)
    beside = str(Path(package.__file__).parent) + "_more.py"
    train = "critic_loss = nets.critic(nets.generator(torch.ones(4, 3))).mean()\\n"
    exec(compile(train + "critic_loss.backward()", beside, "exec"))
""")
    result = project.run("--tb=short")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*gradguard_more.py:2: in <module>"])


def test_a_with_statement_says_where_the_guard_ends(project: Project) -> None:
    """After the block nothing is judged any more; the guard may be entered again."""
    project.write("""
def test_step(gradguard, nets):
    with gradguard(nets.models(), POLICY) as guard:
        nets.train(leak=False)
    nets.train(leak=True)
    with guard, pytest.raises(gradguard.IsolationError):
        nets.train(leak=True)
""")
    project.run().assert_outcomes(passed=1)


def test_several_guards_are_judged_together(project: Project) -> None:
    """Each judges by its own policy; the test fails once with the findings of all."""
    project.write("""
def test_step(gradguard, nets):
    gradguard(nets.models(), POLICY, on_violation="record")
    gradguard(nets.models(), {"critic_loss": gradguard.never("gen*")}, on_violation="record")
    nets.train(leak=True)
""")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*`critic_loss` reaches `generator`*"] * 2)
    result.stdout.fnmatch_lines(["FAILED *(and 1 more)"])


def test_nothing_is_left_behind_by_any_ending(project: Project) -> None:
    """After a pass, a failure, an error in setup and a skip, torch is as it was."""
    project.write("""
DOOR, CALL = torch.autograd._engine_run_backward, torch.nn.Module.__call__

@pytest.fixture
def broken(gradguard, nets):
    gradguard(nets.models(), POLICY)
    raise RuntimeError("the fixture is broken")

def test_passes(gradguard, nets):
    gradguard(nets.models(), POLICY)

def test_fails(gradguard, nets):
    gradguard(nets.models(), POLICY)
    nets.train(leak=True)

def test_errs(broken):
    pass

def test_skips(gradguard, nets):
    gradguard(nets.models(), POLICY)
    pytest.skip()

def test_all_is_as_it_was():
    assert (torch.autograd._engine_run_backward, torch.nn.Module.__call__) == (DOOR, CALL)
""")
    project.run().assert_outcomes(passed=2, failed=1, errors=1, skipped=1)


def test_wrong_arguments_are_reported_as_the_guard_reports_them(project: Project) -> None:
    """The factory refuses at the line of the call."""
    project.write("""
def test_step(gradguard, nets):
    gradguard(nets.models(), {"critic_loss": "critc"})
""")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*names `critc`, which matches no model; did you mean `critic`?*"])


def test_coroutines_are_guarded(project: Project) -> None:
    """The test may be asynchronous: whatever runs it runs it inside the call."""
    with (project.path / "conftest.py").open("a") as conftest:
        conftest.write("""
import asyncio, inspect

@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        names = pyfuncitem._fixtureinfo.argnames
        asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
        return True
""")
    project.write("""
import asyncio

async def test_leaks(gradguard, nets):
    gradguard(nets.models(), POLICY)
    await asyncio.sleep(0)
    nets.train(leak=True)

async def test_is_clean(gradguard, nets):
    gradguard(nets.models(), POLICY)
    await asyncio.sleep(0)
    nets.train(leak=False)
""")
    result = project.run()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["FAILED *::test_leaks - GG101 *"])

"""The option ``--gradguard``: tests that declare nothing, observed."""

from __future__ import annotations

import pytest
from plugin_support import Project

pytest_plugins = ["pytester"]

HEADLINE = "*.py:*: GG101 `critic_loss` reaches `self.generator`, which it does not train"
TRACE = [
    HEADLINE,
    "*fake = self.generator(torch.ones(4, 3))*`self.generator`'s output, carries gradient",
    "*critic_loss.backward()*2 of 2 `self.generator` parameters receive gradient",
]
LEAKS = """
@pytest.mark.parametrize("leak", [True, False])
def test_step(pair, leak):
    pair.step(leak=leak)

def test_plain():
    pass
"""


def test_observing_tells_at_the_end_and_fails_nothing(project: Project) -> None:
    """One section: findings with their trace and tests, the matrix, and how many tests it is of."""
    project.write(LEAKS)
    result = project.run("--gradguard")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        [
            "=* gradguard *=",
            *TRACE,
            "*= in test_nets.py::test_step[[]True]",
            "*self.generator*self.critic*",
            "critic_loss *✗*●*",
            "generator_loss *●*○*",
            "✗ leaked  ● meant  ○ spilled on the way",
            "2 tests ran backward; found 1 finding: 1 warning",
        ]
    )


def test_a_strict_session_fails_a_test_in_its_call_with_the_trace(project: Project) -> None:
    """Failed, not error; what its failure shows is only named in the section."""
    project.write(LEAKS)
    result = project.run("--gradguard=strict")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "_* test_step[[]True] _*",
            *TRACE,
            "=* gradguard *=",
            HEADLINE,
            "    in test_nets.py::test_step[[]True]",
            "FAILED test_nets.py::test_step[[]True] - GG101 `critic_loss` reaches *",
        ]
    )
    assert result.stdout.str().count("2 of 2 `self.generator` parameters") == 1
    result.stdout.no_fnmatch_line("*_callers.py*")


def test_the_setting_stands_for_the_option(project: Project) -> None:
    """The command line wins over it."""
    project.configure("gradguard = strict")
    project.write(LEAKS)
    project.run().assert_outcomes(passed=2, failed=1)
    silent = project.run("--gradguard=off")
    silent.assert_outcomes(passed=3)
    silent.stdout.no_fnmatch_line("=* gradguard *=")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--gradguard=loud"], "*--gradguard: is one of observe, strict, off, not 'loud'"),
        (["--gradguard", "test_nets.py"], "*write `--gradguard=observe test_nets.py`"),
        (["--gradguard-report=all.xml"], "*--gradguard-report=all.xml: the file ends in *"),
    ],
)
def test_wrong_options_are_refused_before_any_test(
    project: Project, arguments: list[str], told: str
) -> None:
    """The message says what to write; a path that the option swallowed is recognised."""
    project.write(LEAKS)
    result = project.run(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([told])


def test_a_wrong_setting_is_refused_as_well(project: Project) -> None:
    """It is named as it stands in the file."""
    project.configure("gradguard = always")
    result = project.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*gradguard = 'always': it is one of observe, strict, off"])


def test_every_kind_of_test_is_watched(project: Project) -> None:
    """Methods, ``unittest`` with what it sets up itself, coroutines; failures show once."""
    project.write("""
import asyncio, unittest
from conftest import Pair

class TestMethods:
    def test_method(self, pair):
        pair.step(leak=True)

class TestCase(unittest.TestCase):
    def setUp(self):
        self.pair = Pair()

    def test_case(self):
        self.pair.step(leak=True)

    def test_clean(self):
        self.pair.step(leak=False)

    def test_broken(self):
        self.pair.step(leak=True)
        self.assertEqual(1, 2)

class TestCoroutines(unittest.IsolatedAsyncioTestCase):
    async def test_coroutine(self):
        await asyncio.sleep(0)
        Pair().step(leak=True)
""")
    result = project.run("--gradguard=strict")
    result.assert_outcomes(passed=1, failed=4)
    result.stdout.fnmatch_lines_random(
        [
            "FAILED *::TestMethods::test_method - GG101 *",
            "FAILED *::TestCase::test_case - GG101 *",
            "FAILED *::TestCase::test_broken - AssertionError: 1 != 2",
            "FAILED *::TestCoroutines::test_coroutine - GG101 *",
            "5 tests ran backward; found 1 finding: 1 warning",
        ]
    )


def test_a_test_that_declares_its_policy_is_judged_by_that_alone(project: Project) -> None:
    """By fixture, marker, or a guard of its own; an expected leak is no finding of the session."""
    project.write("""
from gradguard import Guard, IsolationError, only

def test_expected(gradguard, pair):
    gradguard(pair.models(), POLICY)
    with pytest.raises(IsolationError):
        pair.step(leak=True)

def test_own_guard(pair):
    with pytest.raises(IsolationError), Guard(pair.models(), POLICY):
        pair.step(leak=True)

def test_allowed(gradguard, pair):
    gradguard(pair.models(), {"critic_loss": ["critic", "generator"]})
    pair.train(leak=True)
    pair.critic_opt.step()

def test_only(pair):
    with only(pair.critic, pair.generator):
        pair.train(leak=True)
    pair.critic_opt.step()

@pytest.mark.xfail(raises=IsolationError, strict=True)
@pytest.mark.gradguard(policy=POLICY, models={n: f"pair.{n}" for n in ("critic", "generator")})
def test_xfail(pair):
    pair.train(leak=True)
""")
    result = project.run("--gradguard=strict")
    result.assert_outcomes(passed=4, xfailed=1)
    result.stdout.fnmatch_lines(["*ran backward; no findings"])


def test_a_guard_and_the_session_report_a_leak_once(project: Project) -> None:
    """The guard's failure is the test's; the section names it."""
    project.write("""
def test_recorded(gradguard, pair):
    gradguard(pair.models(), {**POLICY, "generator_loss": "generator"}, on_violation="record")
    pair.step(leak=True)
""")
    result = project.run("--gradguard=strict")
    result.assert_outcomes(failed=1)
    assert result.stdout.str().count("GG101") == 3  # in the failure, the section and the summary
    result.stdout.fnmatch_lines(["1 test ran backward; found 1 finding: 1 warning"])


def test_a_guard_of_the_program_behaves_as_it_does_unwatched(project: Project) -> None:
    """What is judged where the outermost guard is left is judged there still."""
    project.write("""
from gradguard import Guard

def test_starved(pair):
    with Guard(pair.models(), {"critic_loss": ["critic", "generator"]}):
        pair.train(leak=False)
""")
    result = project.run("--gradguard")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["FAILED *GG301 `critic_loss` does not reach `generator`*"])


def test_comments_settings_and_policies_of_the_project_hold(project: Project) -> None:
    """Silenced in the source, left out by file, and judged by the policy that is declared."""
    (project.path / "pyproject.toml").write_text("""
[tool.gradguard.policy]
generator_loss = { never = ["self.critic"], must = ["self.generator"] }
joint_loss = ["critic", "generator"]

[tool.gradguard.per-file-ignores]
"test_ignored.py" = ["GG101"]
""")
    body = """
from conftest import Pair

class Quiet(Pair):
    def train(self, *, leak):
        fake = self.generator(torch.ones(4, 3))
        critic_loss = self.critic(fake).mean()  {comment}
        critic_loss.backward()

def test_step():
    Quiet().step(leak=True)
"""
    project.write(body.format(comment="# gradguard: ignore[GG101] on purpose"), "test_commented")
    project.write(body.format(comment=""), "test_ignored")
    project.write(
        """
def test_joint(pair):
    critic, generator = pair.critic, pair.generator
    pair.critic_opt.zero_grad()
    joint_loss = critic(generator(torch.ones(4, 3))).mean()
    joint_loss.backward()
    pair.critic_opt.step()
""",
        "test_declared",
    )
    result = project.run("--gradguard=strict")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["3 tests ran backward; no findings"])


def test_tests_that_are_distributed_are_told_of_together(project: Project) -> None:
    """Workers send what they saw; the section and the report are the controller's."""
    project.write(LEAKS)
    done = project.run_apart("--gradguard=strict", "-n", "2", "--gradguard-report=seen.json")
    assert "1 failed, 2 passed" in done.stdout
    assert done.stdout.count("gradguard =") == 1
    assert "2 tests ran backward; found 1 finding: 1 warning" in done.stdout
    assert '"test": "test_nets.py::test_step[False]"' in (project.path / "seen.json").read_text()


def test_a_test_that_is_the_first_to_import_torch_is_watched(project: Project) -> None:
    """And where nothing imports it, neither does the option."""
    (project.path / "conftest.py").unlink()
    (project.path / "test_lazy.py").write_text("""
import sys

def test_plain():
    assert "torch" not in sys.modules

def test_lazy():
    import torch
    first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
    second_opt = torch.optim.SGD(second.parameters(), 0.1)
    loss = second(first(torch.ones(3, 2))).sum()
    loss.backward()
    second_opt.step()
""")
    done = project.run_apart("--gradguard")
    assert "1 test ran backward" in done.stdout
    done = project.run_apart("--gradguard", "-k", "plain")
    assert "no test imported torch: there is nothing to tell" in done.stdout


@pytest.mark.parametrize("broken", ["passages.Reader.read", "declared.Declared"])
def test_an_observation_that_breaks_off_is_said_to_and_fails_no_test(
    project: Project, broken: str
) -> None:
    """Neither is half of what happened judged, nor is it kept back that it was not."""
    project.write(f"""
@pytest.fixture
def broken(monkeypatch):
    monkeypatch.setattr("gradguard.runtime.observe.{broken}", None)

def test_step(broken, pair):
    pair.step(leak=True)

def test_clean(pair):
    pair.step(leak=False)
""")
    result = project.run("--gradguard=strict")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        ["test_nets.py::test_step was not judged, by a mistake in gradguard: TypeError: *"]
    )


def test_nothing_is_left_behind_and_no_mistake_of_ours_fails_a_test(project: Project) -> None:
    """After each test torch is as it was; what cannot be judged is said to be so."""
    project.write("""
DOOR, CALL = torch.autograd._engine_run_backward, torch.nn.Module.__call__
BUILT = torch.optim.Optimizer.__init__

@pytest.fixture(autouse=True)
def as_it_was():
    yield
    assert torch.autograd._engine_run_backward is DOOR
    assert torch.nn.Module.__call__ is CALL
    assert torch.optim.Optimizer.__init__ is BUILT

def test_step(pair, monkeypatch):
    pair.step(leak=True)
    monkeypatch.setattr("gradguard.runtime.observe.story.tell", None)

def test_skips(pair):
    pair.step(leak=False)
    pytest.skip()

def test_fails(pair):
    pair.step(leak=False)
    assert 1 == 2
""")
    result = project.run("--gradguard=strict")
    result.assert_outcomes(passed=1, skipped=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "test_nets.py::test_step was not judged, by a mistake in gradguard: TypeError: *",
            "3 tests ran backward; no findings",
        ]
    )

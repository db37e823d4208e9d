"""The marker ``gradguard``: tests held to a policy without a line in their body."""

from __future__ import annotations

import pytest
from plugin_support import Project

pytest_plugins = ["pytester"]


def test_a_marked_test_is_held_to_its_policy(project: Project) -> None:
    """Models are attributes of fixtures; the parametrised test fails where it leaks."""
    project.write("""
@pytest.mark.gradguard(policy=POLICY, models=PATHS)
@pytest.mark.parametrize("leak", [True, False])
def test_step(nets, leak):
    nets.train(leak=leak)
""")
    result = project.run()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["FAILED test_nets.py::test_step[[]True] - GG101 *"])


@pytest.mark.parametrize(
    "models",
    [
        "lambda request: request.getfixturevalue('nets').models()",
        "['nets.critic', 'nets.generator']",
    ],
)
def test_models_are_named_by_path_or_found_by_a_function(project: Project, models: str) -> None:
    """A list names each model as it is written; a function gets the request."""
    policy = "POLICY" if models.startswith("lambda") else '{"critic_loss": "nets.critic"}'
    project.write(f"""
@pytest.mark.gradguard(policy={policy}, models={models})
def test_step(nets):
    nets.train(leak=True)
""")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["FAILED *GG101 `critic_loss` reaches `*generator`*"])


def test_models_may_lie_in_dictionaries(project: Project) -> None:
    """A part of a path is an attribute, or a key of a mapping."""
    project.write("""
@pytest.fixture
def built(nets):
    return {"nets": nets}

@pytest.mark.gradguard(
    policy=POLICY, models={"critic": "built.nets.critic", "generator": "built.nets.generator"}
)
def test_step(built):
    built["nets"].train(leak=True)
""")
    project.run().assert_outcomes(failed=1)


def test_a_class_passes_its_marker_on_to_its_methods(project: Project) -> None:
    """Also to inherited ones, and with fixtures that are parametrised; a method's own wins."""
    project.write("""
WIDE = {"critic": "wide.critic", "generator": "wide.generator"}

class Base:
    def test_inherited(self, wide):
        wide.train(leak=True)

@pytest.mark.gradguard(policy=POLICY, models=WIDE)
class TestStep(Base):
    @pytest.mark.gradguard(policy={"critic_loss": ["critic", "generator"]}, models=WIDE)
    def test_own(self, wide):
        wide.train(leak=True)
""")
    project.run().assert_outcomes(passed=2, failed=2)


def test_a_parametrised_fixture_need_not_be_an_argument(project: Project) -> None:
    """The marker alone makes the test use the fixture, with each of its parameters."""
    project.write("""
@pytest.mark.gradguard(
    policy=POLICY, models={"critic": "wide.critic", "generator": "wide.generator"}
)
def test_step(request):
    request.getfixturevalue("wide").train(leak=True)
""")
    project.run().assert_outcomes(failed=2)


def test_a_module_passes_its_marker_on_to_its_tests(project: Project) -> None:
    """``pytestmark`` holds a whole file to one policy."""
    project.write("""
pytestmark = [pytest.mark.gradguard(policy=POLICY, models=PATHS)]

def test_leaks(nets):
    nets.train(leak=True)

class TestMore:
    def test_leaks(self, nets):
        nets.train(leak=True)

    def test_is_clean(self, nets):
        nets.train(leak=False)
""")
    project.run().assert_outcomes(passed=1, failed=2)


@pytest.mark.parametrize("mode", ["raise", "record"])
@pytest.mark.parametrize("where", ["class", "method"])
def test_test_cases_of_unittest_are_held_to_their_policy(
    project: Project, mode: str, where: str
) -> None:
    """A ``unittest.TestCase`` cannot take fixtures as arguments, but it can be marked."""
    mark = f"@pytest.mark.gradguard(policy=POLICY, models=PATHS, on_violation={mode!r})"
    project.write(f"""
import unittest

{mark if where == "class" else ""}
class StepCase(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def take(self, nets):
        self.nets = nets

    {mark if where == "method" else ""}
    def test_leaks(self):
        self.nets.train(leak=True)

    def test_is_clean(self):
        self.nets.train(leak=False)
""")
    result = project.run()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["FAILED *::StepCase::test_leaks - GG101 *"])
    result.stdout.no_fnmatch_line("*_engine_run_backward*")


def test_the_policy_may_be_a_file(project: Project) -> None:
    """A path that is not absolute begins at the root of the project."""
    (project.path / "policy.toml").write_text('[policy]\ncritic_loss = "critic"\n')
    project.write("""
@pytest.mark.gradguard(policy="policy.toml", models=PATHS)
def test_step(nets):
    nets.train(leak=True)
""")
    project.run().assert_outcomes(failed=1)


def test_training_in_fixtures_is_not_the_tests_own(project: Project) -> None:
    """The marker watches the call: what another fixture pre-trains is left alone."""
    project.write("""
@pytest.fixture
def trained(nets):
    nets.train(leak=True)
    yield nets
    nets.train(leak=True)

@pytest.mark.gradguard(policy=POLICY, models=PATHS)
def test_step(trained):
    trained.train(leak=False)
""")
    project.run().assert_outcomes(passed=1)


WRONG = {
    'POLICY, ["nets"]': "all arguments are keywords",
    "policy=POLICY": "models= is missing",
    'models=["nets"]': "policy= is missing",
    'polcy=POLICY, models=["nets"]': "unknown argument 'polcy'; did you mean `policy`?",
    'policy={}, models=["nets"]': "the policy is empty",
    'policy={"critic_loss": 3}, models=["nets"]': "expected model names, got int",
    'policy=POLICY, models=["netz"]': "names `critic`, which matches no model",
    'policy=POLICY, models={"critic": "netz"}': "models='netz': no such fixture",
    "policy=POLICY, models=3": "models= holds a int; it takes names of fixtures",
    'policy=POLICY, models={"critic": "a b"}': "models='a b' is no name of a fixture",
    'policy="absent.toml", models=["nets"]': "cannot read a policy from *absent.toml",
    'policy=POLICY, models=PATHS, on_violation="rise"': "did you mean `raise`?",
    "policy=POLICY, models=PATHS, every=0": "every=0; it counts backwards",
    "policy=POLICY, models=PATHS, strict=1": "strict=1; it is True or False",
}


def test_wrong_arguments_are_rejected_where_tests_are_collected(project: Project) -> None:
    """No test is run; each message names the test and says what the marker takes."""
    project.write(
        "\n".join(
            f"@pytest.mark.gradguard({arguments})\n"
            f"@pytest.mark.parametrize('number', [1, 2])\n"
            f"def test_{number}(number, nets): pass"
            for number, arguments in enumerate(WRONG)
        )
    )
    result = project.run()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            f"test_nets.py::test_{number}: @pytest.mark.gradguard: *{told}*"
            for number, told in enumerate(WRONG.values())
        ],
        consecutive=True,
    )


def test_what_only_the_fixtures_show_is_an_error_of_the_setup(project: Project) -> None:
    """An attribute that a fixture lacks is named in one line, with what it may have meant."""
    project.write("""
@pytest.mark.gradguard(policy=POLICY, models={"critic": "nets.critc"})
def test_step(nets):
    nets.train(leak=False)
""")
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*models='nets.critc': `nets` is a Nets and has no `critc`; did you mean `critic`?"]
    )

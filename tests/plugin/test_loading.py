"""What the plugin costs where it is not used, and how it is loaded and left out."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

from plugin_support import Project

pytest_plugins = ["pytester"]

HEAVY = {"torch", "numpy", "libcst", "rich", "click", "gradguard.core", "gradguard.runtime"}


def test_tests_that_use_no_guard_load_nothing_of_it(project: Project) -> None:
    """Neither torch nor any part of gradguard but the plugin, over a whole session."""
    (project.path / "conftest.py").unlink()
    (project.path / "test_plain.py").write_text(f"""
import sys

def test_plain():
    assert not {HEAVY!r} & set(sys.modules)
""")
    done = project.run_apart("-p", "no:hypothesispytest")
    assert done.returncode == 0, done.stdout


def test_loading_the_plugin_loads_no_hypothesis() -> None:
    """Beyond pytest itself, the import adds the plugin and the package."""
    script = """
import sys, pytest
before = set(sys.modules)
import gradguard.pytest_plugin
print(sorted(name for name in set(sys.modules) - before))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "['gradguard', 'gradguard.pytest_plugin']\n"


def test_the_package_registers_the_plugin_under_its_name() -> None:
    """So that it is found when installed, and ``-p no:gradguard`` leaves it out."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    ((name, value),) = project["project"]["entry-points"]["pytest11"].items()
    assert name == "gradguard"
    loaded = EntryPoint(name, value, "pytest11").load()
    assert loaded.__name__ == "gradguard.pytest_plugin"


def test_findings_are_shown_where_tests_are_distributed(project: Project) -> None:
    """Under pytest-xdist the trace and the summary come from the workers whole."""
    project.write("""
@pytest.mark.gradguard(policy=POLICY, models=PATHS)
@pytest.mark.parametrize("leak", [True, False])
def test_marked(nets, leak):
    nets.train(leak=leak)

def test_step(gradguard, nets):
    gradguard(nets.models(), POLICY, on_violation="record")
    nets.train(leak=True)
""")
    done = project.run_apart("-n", "2")
    assert done.returncode == 1
    assert "2 failed, 1 passed" in done.stdout
    assert "FAILED test_nets.py::test_step - GG101 `critic_loss` reaches `generator`" in done.stdout
    assert done.stdout.count("2 of 2 `generator` parameters receive gradient") == 2


def test_the_marker_is_known_where_markers_must_be(project: Project) -> None:
    """``--strict-markers`` accepts it, and ``--markers`` explains it."""
    project.write("""
@pytest.mark.gradguard(policy=POLICY, models=PATHS)
def test_step(nets):
    nets.train(leak=False)
""")
    project.run("--strict-markers").assert_outcomes(passed=1)
    project.run("--markers").stdout.fnmatch_lines(["@pytest.mark.gradguard(policy, models, *"])

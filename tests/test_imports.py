"""What an import costs and needs: no torch for the package, no front end for the core."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import gradguard

PACKAGE = Path(gradguard.__file__).parent

WITHOUT_DEPENDENCIES = """
import importlib.abc
import sys

ABSENT = {"torch", "numpy", "libcst", "rich", "click"}


class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Absent())
"""

RUNTIME_USES = [
    "gradguard.only()",
    "gradguard.Guard({}, {})",
    "gradguard.backward(None, into=None)",
    "gradguard.assert_isolated(None, only=None)",
    "gradguard.frozen()",
    "gradguard.flow({}, {})",
]

TORCH_FREE_USES = [
    "gradguard.IsolationError(())",
    "gradguard.IsolationWarning('seen')",
    "gradguard.PolicyError('wrong')",
    "gradguard.Reach.NONE",
    "gradguard.must('actor') | gradguard.may('encoder') | gradguard.never('critic')",
    "gradguard.Policy.parse({'actor_loss': ['actor']}).validate(['actor'])",
    "gradguard.Rule(only=frozenset({'actor'}))",
    "gradguard.Finding",
    "gradguard.__version__",
]


def without_dependencies(body: str) -> subprocess.CompletedProcess[str]:
    """Run ``body`` in a fresh interpreter that finds none of the dependencies."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_DEPENDENCIES + textwrap.dedent(body)],
        capture_output=True,
        text=True,
        check=False,
    )


def imported(module: Path) -> Iterator[str]:
    """Yield the full name of all that a module's source imports, also inside functions."""
    package = ["gradguard", *module.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def offences(part: str, forbidden: tuple[str, ...]) -> list[str]:
    """Return what the modules of a part of the package import and should not."""
    modules = sorted((PACKAGE / part).rglob("*.py"))
    assert modules, f"no module in {part}"
    return [
        f"{module.relative_to(PACKAGE)} imports {name}"
        for module in modules
        for name in imported(module)
        if any(f"{name}.".startswith(f"{barred}.") for barred in forbidden)
    ]


def test_the_package_is_imported_without_any_of_its_dependencies() -> None:
    """``import gradguard`` needs nothing but the standard library."""
    done = without_dependencies("import gradguard")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_package_takes_no_framework_in_even_where_one_is_installed() -> None:
    """``import gradguard`` imports neither torch nor what the other front ends need."""
    script = """
        import sys
        import gradguard
        heavy = {"torch", "numpy", "libcst", "rich", "click", "gradguard.runtime"}
        print(sorted(heavy & set(sys.modules)))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("use", RUNTIME_USES)
def test_a_runtime_name_without_torch_says_what_to_install(use: str) -> None:
    """The name exists and is callable; its first use raises ImportError naming the extra."""
    done = without_dependencies(f"""
        import gradguard
        assert callable({use.partition("(")[0]})
        try:
            {use}
        except ImportError as error:
            print(error)
    """)
    assert done.returncode == 0, done.stderr
    assert "pip install 'gradguard[torch]'" in done.stdout
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize("use", TORCH_FREE_USES)
def test_a_name_that_needs_no_torch_works_without_it(use: str) -> None:
    """Errors, reach, rules and policies belong to the core and need nothing installed."""
    done = without_dependencies(f"import gradguard\n{use}")
    assert (done.returncode, done.stderr) == (0, "")


def test_every_public_name_exists_and_is_listed() -> None:
    """``gradguard.__all__`` holds names that exist, and ``dir`` shows them."""
    for name in gradguard.__all__:
        assert getattr(gradguard, name) is not None
    assert set(gradguard.__all__) <= set(dir(gradguard))


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    """Loading names lazily does not turn a typo into something else."""
    done = without_dependencies("""
        import gradguard
        try:
            gradguard.Gard
        except AttributeError as error:
            print(error)
    """)
    assert done.returncode == 0, done.stderr
    assert "Gard" in done.stdout


def test_the_core_imports_neither_a_framework_nor_a_front_end() -> None:
    """Over the source of ``core``: nothing from torch, libcst or the rest of gradguard."""
    barred = (
        "torch", "numpy", "libcst", "click", "gradguard.runtime", "gradguard.lint",
        "gradguard.report", "gradguard.reference", "gradguard.cli", "gradguard.integrations",
    )  # fmt: skip
    assert offences("core", barred) == []


def test_the_runtime_imports_no_linter_and_no_training_loop() -> None:
    """Over the source of ``runtime``: nothing from libcst, ``lint``, ``reference`` or the CLI."""
    barred = ("libcst", "gradguard.lint", "gradguard.reference", "gradguard.cli")
    assert offences("runtime", barred) == []

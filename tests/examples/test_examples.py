"""The examples: the correct ones are clean, and the broken ones are found where they break."""

from __future__ import annotations

import difflib
import importlib.util
import runpy
import tomllib
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import gradguard

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@dataclass(frozen=True)
class Lesson:
    """What one example teaches, as lessons.toml says it."""

    name: str
    code: str
    severity: str
    message: str
    loss: str
    model: str
    place: str
    trace: list[str]
    help: str
    parameter: list[str]
    deposits: list[int]
    harm: bool

    @property
    def correct(self) -> str:
        """Path of the correct version below examples/."""
        return f"{self.name}.py"

    @property
    def broken(self) -> str:
        """Path of the broken version below examples/."""
        return f"broken/{self.name}.py"

    def watched(self, models: dict[str, Any]) -> nn.Parameter:
        """Return the parameter whose deposits are counted."""
        model, *path = self.parameter
        found: nn.Parameter = models[model].get_parameter(*path) if path else models[model]
        return found


LESSONS = [
    Lesson(name, **table)
    for name, table in tomllib.loads(
        Path(__file__).with_name("lessons.toml").read_text(encoding="utf-8")
    ).items()
]

each_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
each_file = pytest.mark.parametrize(
    "path",
    [path for lesson in LESSONS for path in (lesson.correct, lesson.broken)],
)


class Unguarded:
    """Takes the place of a Guard and does what the program would do without one."""

    def __enter__(self) -> None:
        """Install nothing."""

    def __exit__(self, *exception: object) -> None:
        """Remove nothing."""

    def watch(self, losses: dict[str, torch.Tensor]) -> None:
        """Name nothing."""

    def loss(self, _name: str) -> AbstractContextManager[None]:
        """Name nothing."""
        return nullcontext()

    def backward(self, loss: torch.Tensor, _name: str) -> None:
        """Run the plain backward pass."""
        loss.backward()


@contextmanager
def plainly_frozen(*models: nn.Module) -> Iterator[None]:
    """Hold models fixed with PyTorch alone."""
    parameters = [p for model in models for p in model.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    yield
    for parameter in parameters:
        parameter.requires_grad_(True)


PLAIN_PYTORCH = SimpleNamespace(
    only=lambda *_models: nullcontext(),
    frozen=plainly_frozen,
    backward=lambda loss, **_into: loss.backward(),
)


def load(path: str) -> ModuleType:
    """Import an example by its path below examples/."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, EXAMPLES / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tensors_in(value: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Iterate over all numbers in models and state dictionaries, by the path to each."""
    if isinstance(value, nn.Module):
        yield from tensors_in(value.state_dict(), name)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from tensors_in(part, f"{name}.{key}")
    elif isinstance(value, torch.Tensor | int | float):
        yield name, torch.as_tensor(value).detach().clone()


def outcome(
    models: dict[str, Any], optimizers: list[torch.optim.Optimizer]
) -> dict[str, torch.Tensor]:
    """Return all that a run leaves: parameters, buffers, optimizer state, random numbers."""
    found = dict(tensors_in(models, "models"))
    for index, optimizer in enumerate(optimizers):
        found |= tensors_in(optimizer.state_dict()["state"], f"optimizers.{index}")
    found["rng"] = torch.get_rng_state()
    return found


def run_unguarded(path: str) -> dict[str, torch.Tensor]:
    """Run an example without any part of gradguard."""
    module = load(path)
    module.gradguard = PLAIN_PYTORCH  # type: ignore[attr-defined]
    models = module.build()
    return outcome(models, module.train(models, Unguarded()))


def run_guarded(path: str) -> tuple[dict[str, torch.Tensor], gradguard.Guard]:
    """Run an example as it stands, with a guard that records."""
    module = load(path)
    models = module.build()
    guard = gradguard.Guard(models, module.POLICY, on_violation="record")
    return outcome(models, module.train(models, guard)), guard


def differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    """Name what differs between two runs, bit for bit."""
    return sorted(
        name
        for name in one.keys() | other.keys()
        if name not in one or name not in other or not torch.equal(one[name], other[name])
    )


def test_every_example_has_a_lesson() -> None:
    """No example is left out of these tests, and each has its broken twin."""
    names = {lesson.name for lesson in LESSONS}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == names
    assert {path.stem for path in (EXAMPLES / "broken").glob("*.py")} == names


@each_lesson
def test_the_readme_announces_the_finding(lesson: Lesson) -> None:
    """The table of examples has a row for each, with the code that its broken version gets."""
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8").splitlines()
    (row,) = [line for line in table if line.startswith(f"| [{lesson.name}]({lesson.name}.py) |")]
    assert f"| {lesson.code}: " in row


@each_lesson
def test_the_broken_example_differs_by_one_line(lesson: Lesson) -> None:
    """One line is replaced or removed, and nothing else, not even a comment."""
    correct = (EXAMPLES / lesson.correct).read_text().splitlines()
    broken = (EXAMPLES / lesson.broken).read_text().splitlines()
    matcher = difflib.SequenceMatcher(None, correct, broken, autojunk=False)
    changes = [
        (end - start, new_end - new_start)
        for kind, start, end, new_start, new_end in matcher.get_opcodes()
        if kind != "equal"
    ]
    assert changes in ([(1, 1)], [(1, 0)])


@each_lesson
def test_the_broken_line_has_the_effect_it_is_said_to_have(lesson: Lesson) -> None:
    """PyTorch alone shows it: how often gradient arrives, and whether training changes."""
    outcomes, deposits = [], []
    for path in (lesson.correct, lesson.broken):
        module = load(path)
        module.gradguard = PLAIN_PYTORCH  # type: ignore[attr-defined]
        models = module.build()
        parameter, arrived = lesson.watched(models), Counter[str]()
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(
                lambda _, seen=arrived: seen.update(["gradient"])
            )
        outcomes.append(outcome(models, module.train(models, Unguarded())))
        deposits.append(arrived["gradient"])
    assert deposits == lesson.deposits
    assert bool(differing(*outcomes)) is lesson.harm


@each_file
def test_training_under_guard_is_bit_identical(path: str) -> None:
    """Guarded and unguarded runs agree in parameters, buffers, optimizer state and random state."""
    guarded, _ = run_guarded(path)
    assert differing(guarded, run_unguarded(path)) == []


@each_lesson
def test_the_correct_example_has_no_findings(lesson: Lesson) -> None:
    """What is right is left in peace, with every loss of the policy seen."""
    _, guard = run_guarded(lesson.correct)
    assert guard.findings == []


@each_lesson
def test_the_broken_example_has_its_one_finding(lesson: Lesson) -> None:
    """One mistake is one finding, with the code, the severity and the words of its consequence."""
    _, guard = run_guarded(lesson.broken)
    found = [(f.code, f.severity, f.message, f.loss, f.model) for f in guard.findings]
    expected = (lesson.code, lesson.severity, lesson.message, lesson.loss, lesson.model)
    assert found == [expected]


@each_lesson
def test_the_finding_points_to_its_lines(lesson: Lesson) -> None:
    """It names where the model was called, where that enters the loss, the backward, the step."""
    _, guard = run_guarded(lesson.broken)
    path = EXAMPLES / lesson.broken
    lines = [line.strip() for line in path.read_text().splitlines()]
    (finding,) = guard.findings
    assert finding.filename == str(path)
    assert lines[finding.location.row - 1] == lesson.place
    assert {step.filename for step in finding.trace} == {str(path)}
    assert [lines[step.location.row - 1] for step in finding.trace] == lesson.trace


@each_lesson
def test_the_help_says_what_to_write(lesson: Lesson) -> None:
    """For a leak it names the expression to detach, and the rendered finding ends with it."""
    _, guard = run_guarded(lesson.broken)
    (finding,) = guard.findings
    assert lesson.help in (finding.help or "")
    if lesson.code in ("GG101", "GG103", "GG104"):
        assert f"= help: {finding.help}" in str(finding)


@each_lesson
def test_each_example_runs_as_a_script(lesson: Lesson, capsys: pytest.CaptureFixture[str]) -> None:
    """It ends without an error, and prints its findings and the flow matrix."""
    runpy.run_path(str(EXAMPLES / lesson.correct), run_name="__main__")
    clean = capsys.readouterr().out
    runpy.run_path(str(EXAMPLES / lesson.broken), run_name="__main__")
    broken = capsys.readouterr().out
    assert clean.startswith("no findings\n")
    assert f": {lesson.code} {lesson.message}\n" in broken
    for loss in load(lesson.correct).POLICY:
        assert loss in clean

"""Programs that are run twice: as they are, and under a guard that must change nothing."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import gradguard

POLICY = {"critic_loss": "critic", "generator_loss": "generator"}


@dataclass
class Scene:
    """What a program works on: models and optimizers by name, and a batch.

    Models and optimizers are attributes as well, so that programs read like training code.
    """

    models: dict[str, Any]
    optimizers: dict[str, Optimizer] = field(default_factory=dict)
    z: Tensor = field(default_factory=lambda: torch.randn(8, 3))
    real: Tensor = field(default_factory=lambda: torch.randn(8, 2))

    def __getattr__(self, name: str) -> Any:
        """Find a model or an optimizer."""
        for table in (self.__dict__.get("models", {}), self.__dict__.get("optimizers", {})):
            if name in table:
                return table[name]
        raise AttributeError(name)

    def parameters(self) -> list[Tensor]:
        """Return the parameters of all models as they are now."""
        found: list[Tensor] = []
        for model in self.models.values():
            if isinstance(model, nn.Module):
                found += model.parameters()
            elif not isinstance(model, str):
                found += [model] if isinstance(model, Tensor) else list(model)
        return found

    def gradients(self) -> list[Tensor | None]:
        """Return the gradients of all parameters, the objects themselves."""
        return [parameter.grad for parameter in self.parameters()]

    def state(self) -> list[Any]:
        """Return copies of all that training changes, the random number generator included."""
        buffers = [
            buffer
            for model in self.models.values()
            if isinstance(model, nn.Module)
            for buffer in model.buffers()
        ]
        moments = [
            value
            for optimizer in self.optimizers.values()
            for parameter in optimizer.state.values()
            for value in parameter.values()
            if isinstance(value, Tensor)
        ]
        tensors = [*self.parameters(), *self.gradients(), *buffers, *moments]
        copies = [None if t is None else t.detach().clone() for t in tensors]
        return [*copies, torch.get_rng_state()]


Program = Callable[[Scene], object]
Builder = Callable[[], Scene]


def pair(**options: Any) -> Scene:
    """Build a critic and a generator, each with a hidden layer and plain SGD."""
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
    generator = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    return Scene(
        {"critic": critic, "generator": generator},
        {
            "critic_opt": torch.optim.SGD(critic.parameters(), lr=0.1, **options),
            "generator_opt": torch.optim.SGD(generator.parameters(), lr=0.1, **options),
        },
    )


def same(left: Iterable[Tensor | None], right: Iterable[Tensor | None]) -> bool:
    """Tell whether two rows of tensors are bit-identical, ``None`` for ``None``."""
    return all(
        a is b if a is None or b is None else a.dtype == b.dtype and torch.equal(bits(a), bits(b))
        for a, b in zip(left, right, strict=True)
    )


def bits(tensor: Tensor) -> Tensor:
    """Return the bytes of a tensor, so that NaN equals itself."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def recorded(
    program: Program,
    build: Builder = pair,
    policy: Mapping[str, Any] = POLICY,
    **options: Any,
) -> gradguard.Guard:
    """Run a program unguarded and under a recording guard, and compare all that it has trained.

    Returns:
        The guard, with what it found.
    """
    bare = build()
    program(bare)
    scene = build()
    guard = gradguard.Guard(scene.models, policy, on_violation="record", **options)
    with guard:
        program(scene)
    assert same(bare.state(), scene.state())
    return guard


def assert_clean(
    program: Program,
    build: Builder = pair,
    policy: Mapping[str, Any] = POLICY,
    **options: Any,
) -> gradguard.Guard:
    """Assert that a correct program is not accused, not stopped, and trains the same bits.

    Returns:
        The guard that recorded, for a look at its ledger.
    """
    guard = recorded(program, build, policy, **options)
    assert guard.findings == []
    bare = build()
    program(bare)
    scene = build()
    with gradguard.Guard(scene.models, policy, **options):
        program(scene)
    assert same(bare.state(), scene.state())
    return guard


def refused(
    program: Program,
    build: Builder = pair,
    policy: Mapping[str, Any] = POLICY,
    **options: Any,
) -> tuple[gradguard.IsolationError, Scene]:
    """Run a program under a raising guard, which must stop it; return the error and the scene."""
    scene = build()
    with (
        pytest.raises(gradguard.IsolationError) as caught,
        gradguard.Guard(scene.models, policy, **options),
    ):
        program(scene)
    return caught.value, scene


Said = tuple[str, str | None, str | None, int]


def said(findings: Iterable[gradguard.Finding]) -> list[Said]:
    """Return code, loss, model and row of each finding."""
    return [(f.code, f.loss, f.model, f.location.row) for f in findings]


def row(program: Callable[..., object], mark: str) -> int:
    """Return the row of the line of a function that ends with the comment ``mark``."""
    lines, first = inspect.getsourcelines(inspect.unwrap(program))
    [found] = [n for n, line in enumerate(lines, first) if line.rstrip().endswith(f"# {mark}")]
    return found

"""The loop: two models, two losses, two optimizers, and nothing shared between them.

The critic learns to score real samples above generated ones, and only the critic: ``detach`` stops
its loss at the generator's output. The generator learns to be scored higher, and only the
generator: its loss passes through the critic, whose gradients ``guard.backward`` never computes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gradguard.reference.config import Settings, SettingsError
from gradguard.reference.data import Batches, Mixture, Source
from gradguard.reference.isolation import OnViolation, Unguarded, guard_for
from gradguard.reference.lipschitz import clip_weights, gradient_penalty
from gradguard.reference.metrics import Metrics
from gradguard.reference.models import Pair, PairFactory, mlp_pair

__all__ = ["Trainer"]


class Trainer:
    """Trains a critic and a generator side by side.

    Args:
        settings: How to train.
        make_pair: Builds the two models.
        source: What the generator is to imitate.
        on_violation: What the guard does when a loss trains the wrong model.

    Raises:
        SettingsError: If the device is not there.

    Example:
        >>> trainer = Trainer(Settings(steps=2, guard=False))
        >>> trainer.train()
        >>> trainer.sample(5).shape
        torch.Size([5, 2])
    """

    _STATEFUL = (
        "critic",
        "generator",
        "critic_optimizer",
        "generator_optimizer",
        "critic_scaler",
        "generator_scaler",
        "batches",
        "metrics",
    )

    def __init__(
        self,
        settings: Settings,
        *,
        make_pair: PairFactory = mlp_pair,
        source: Source | None = None,
        on_violation: OnViolation = "raise",
    ) -> None:
        self.settings = settings
        self.device = _device(settings)
        # Streams seeded alike would repeat each other: the noise would be the data's.
        weights, data, noise = _spawn_seeds(settings.seed, 3)
        torch.manual_seed(weights)
        self.critic, self.generator = (model.to(self.device) for model in make_pair(settings))
        self.critic_optimizer = self._make_optimizer(self.critic, settings.critic_lr)
        self.generator_optimizer = self._make_optimizer(self.generator, settings.generator_lr)
        self.critic_scaler = self._make_scaler()
        self.generator_scaler = self._make_scaler()
        self.batches = Batches(source or Mixture(), settings.batch, self.device, data)
        self.noise_rng = torch.Generator(self.device).manual_seed(noise)
        self.metrics = Metrics("critic_loss", "generator_loss")
        pair = Pair(self.critic, self.generator)
        self.guard = guard_for(pair, on_violation) if settings.guard else Unguarded()
        self.step = 0

    def train(
        self, until: int | None = None, *, after_step: Callable[[], object] | None = None
    ) -> None:
        """Train under guard up to a step, by default to the last.

        Args:
            until: The step to stop after.
            after_step: Called after every step, inside the guard.
        """
        last = self.settings.steps if until is None else min(until, self.settings.steps)
        with _backend(self.settings), self.guard:
            while self.step < last:
                self.train_step()
                if after_step is not None:
                    after_step()

    def train_step(self) -> None:
        """Update the critic ``n_critic`` times and the generator once, without reading a value."""
        self._set_learning_rates()
        for left in reversed(range(self.settings.n_critic)):
            noise = self._noise()
            # A graph is kept only for the samples that the generator step will reuse.
            with torch.set_grad_enabled(left == 0 or self.settings.plant_leak), self._autocast():
                fake = self.generator(noise)
            made = self._versions(fake)
            critic_loss = self._update_critic(fake, self.batches.next())
        # Samples are as good as new if nothing wrote to them or to the generator: the critic's
        # update changes only the critic, which is called again. A planted leak spends their graph.
        reusable = self.settings.reuse_fake and not self.settings.plant_leak
        if not reusable or self._versions(fake) != made:
            with self._autocast():
                fake = self.generator(noise)
        generator_loss = self._update_generator(fake)
        self.metrics.record(critic_loss, generator_loss)
        self.step += 1

    def _update_critic(self, fake: Tensor, real: Tensor) -> Tensor:
        with self._autocast():
            if self.settings.plant_leak:
                score_fake = self.critic(fake)
            else:
                score_fake = self.critic(fake.detach())
            score_real = self.critic(real)
        critic_loss: Tensor = score_fake.float().mean() - score_real.float().mean()
        objective = critic_loss
        if self.settings.constraint == "penalty":
            objective = critic_loss + self.settings.penalty * self._penalty(real, fake.detach())

        self.critic_optimizer.zero_grad()
        with self.guard.loss("critic_loss"):
            self.critic_scaler.scale(objective).backward()
        self.critic_scaler.step(self.critic_optimizer)
        self.critic_scaler.update()

        if self.settings.constraint == "clip":
            clip_weights(self.critic, self.settings.clip)
        return critic_loss

    def _update_generator(self, fake: Tensor) -> Tensor:
        with self._autocast():
            score = self.critic(fake)
        generator_loss: Tensor = -score.float().mean()

        self.generator_optimizer.zero_grad()
        self.guard.backward(self.generator_scaler.scale(generator_loss), "generator_loss")
        self.generator_scaler.step(self.generator_optimizer)
        self.generator_scaler.update()
        return generator_loss

    def _penalty(self, real: Tensor, fake: Tensor) -> Tensor:
        mix = torch.rand(
            (len(real), *[1] * (real.ndim - 1)), generator=self.noise_rng, device=self.device
        )
        # A norm of gradients needs more digits than half precision has.
        with torch.autocast(self.device.type, enabled=False):
            return gradient_penalty(self.critic, real.float(), fake.float(), mix)

    @torch.no_grad()
    def sample(self, count: int, seed: int = 0) -> Tensor:
        """Generate samples for looking at, without touching the run.

        Args:
            count: How many.
            seed: Seed of their noise.

        Returns:
            Samples on the CPU.
        """
        rng = torch.Generator(self.device).manual_seed(seed)
        noise = torch.randn(count, self.settings.latent, generator=rng, device=self.device)
        with _evaluating(self.generator):
            samples: Tensor = self.generator(noise)
        return samples.cpu()

    def state_dict(self) -> dict[str, Any]:
        """Give all that the rest of the run depends on."""
        cuda = self.device.type == "cuda"
        return {
            "settings": self.settings.to_dict(),
            "step": self.step,
            **{name: getattr(self, name).state_dict() for name in self._STATEFUL},
            "noise_rng": self.noise_rng.get_state(),
            "global_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self.device) if cuda else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where ``state_dict`` was taken.

        Raises:
            SettingsError: If the state is of a run with other settings.
        """
        self.settings.require_same_run(state["settings"])
        self.step = state["step"]
        for name in self._STATEFUL:
            getattr(self, name).load_state_dict(state[name])
        self.noise_rng.set_state(state["noise_rng"])
        torch.set_rng_state(state["global_rng"])
        if state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"], self.device)

    def _make_optimizer(self, model: nn.Module, lr: float) -> torch.optim.RMSprop:
        # RMSprop has no fused form; `foreach` is the fastest there is, on the CPU as well.
        alpha = self.settings.smoothing
        return torch.optim.RMSprop(model.parameters(), lr=lr, alpha=alpha, foreach=True)

    def _make_scaler(self) -> torch.amp.GradScaler:
        # bfloat16 has the range of float32, so only float16 gradients can vanish. Finding that out
        # is the one thing for which a step under float16 has to wait for the device.
        return torch.amp.GradScaler(self.device.type, enabled=self.settings.amp == "float16")

    def _autocast(self) -> torch.autocast:
        dtype = {"off": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
        kind = dtype[self.settings.amp]
        return torch.autocast(self.device.type, dtype=kind, enabled=kind is not None)

    def _versions(self, fake: Tensor) -> list[int]:
        """Count the writes to samples and to what made them; a critic may work in place."""
        counted = (fake, *self.generator.parameters())
        return [tensor._version for tensor in counted]  # noqa: SLF001  There is no public count.

    def _noise(self) -> Tensor:
        shape = (self.settings.batch, self.settings.latent)
        return torch.randn(shape, generator=self.noise_rng, device=self.device)

    def _set_learning_rates(self) -> None:
        left = 1 - self.step / self.settings.steps if self.settings.decay else 1.0
        self.critic_optimizer.param_groups[0]["lr"] = self.settings.critic_lr * left
        self.generator_optimizer.param_groups[0]["lr"] = self.settings.generator_lr * left


def _device(settings: Settings) -> torch.device:
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device is cuda, but PyTorch finds no CUDA device here; use cpu")
    return torch.device(settings.device)


def _spawn_seeds(seed: int, count: int) -> list[int]:
    """Derive unrelated seeds from one."""
    source = random.Random(seed)  # noqa: S311  Nothing here is secret.
    return [source.getrandbits(63) for _ in range(count)]


@contextmanager
def _backend(settings: Settings) -> Iterator[None]:
    """Set PyTorch up for this loop, and back as it was."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(settings.threads)
    if settings.device == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode, and every part of it back in its own."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode

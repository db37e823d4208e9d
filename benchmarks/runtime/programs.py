"""The training steps that are timed: each an object with models, a policy and a ``step``."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

import gradguard

__all__ = ["GAN", "SAC", "Program", "conv_gan", "mlp_gan"]


class Program(Protocol):
    """Something that trains models, one step at a time.

    Attributes:
        models: The models by name.
        policy: What each loss may train.
    """

    models: dict[str, Any]
    policy: dict[str, Any]

    def step(self) -> None:
        """Run one training step."""


def _mlp(inputs: int, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, outputs),
    )


class GAN:
    """A critic and a generator in turn; the generator's loss passes through the critic."""

    def __init__(
        self,
        critic: nn.Module,
        generator: nn.Module,
        latent: tuple[int, ...],
        sample: tuple[int, ...],
        device: torch.device,
    ) -> None:
        """Place the networks and make one batch of data.

        Args:
            critic: Takes samples to scores.
            generator: Takes latents to samples.
            latent: Shape of a batch of latents.
            sample: Shape of a batch of samples.
            device: Where to train.
        """
        self.critic, self.generator = critic.to(device), generator.to(device)
        self.models: dict[str, Any] = {"critic": self.critic, "generator": self.generator}
        self.policy: dict[str, Any] = {"critic_loss": "critic", "generator_loss": "generator"}
        self.critic_optimizer = torch.optim.RMSprop(self.critic.parameters(), lr=1e-5)
        self.generator_optimizer = torch.optim.RMSprop(self.generator.parameters(), lr=1e-5)
        self.real = torch.randn(sample, device=device)
        self.latent = torch.randn(latent, device=device)

    def step(self) -> None:
        """Train the critic, then the generator."""
        fake = self.generator(self.latent)
        critic_loss = self.critic(fake.detach()).mean() - self.critic(self.real).mean()
        self.critic_optimizer.zero_grad()
        critic_loss.backward()
        self.critic_optimizer.step()
        generator_loss = -self.critic(fake).mean()
        self.generator_optimizer.zero_grad()
        generator_loss.backward()
        self.generator_optimizer.step()

    def generator_step(self) -> None:
        """Train the generator with a backward that fills the critic's gradients as well."""
        generator_loss = -self.critic(self.generator(self.latent)).mean()
        self.generator_optimizer.zero_grad()
        generator_loss.backward()
        self.generator_optimizer.step()

    def filtered_step(self, guard: gradguard.Guard) -> None:
        """Train the generator with a backward that the guard filters."""
        generator_loss = -self.critic(self.generator(self.latent)).mean()
        self.generator_optimizer.zero_grad()
        guard.backward(generator_loss, "generator_loss")
        self.generator_optimizer.step()


def mlp_gan(batch: int, device: torch.device, *, width: int = 64) -> GAN:
    """Make a GAN of two perceptrons over points in the plane."""
    torch.manual_seed(0)
    return GAN(_mlp(2, width, 1), _mlp(8, width, 2), (batch, 8), (batch, 2), device)


def conv_gan(batch: int, device: torch.device) -> GAN:
    """Make a convolutional GAN over images of 16 by 16, of two networks of like size."""
    torch.manual_seed(0)
    critic = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(32, 64, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(64, 64, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 1),
    )
    generator = nn.Sequential(
        nn.Linear(32, 64 * 4 * 4),
        nn.Unflatten(1, (64, 4, 4)),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 3, 4, stride=2, padding=1),
        nn.Tanh(),
    )
    return GAN(critic, generator, (batch, 32), (batch, 3, 16, 16), device)


class SAC:
    """Actor, critic and target critic, with a learned temperature as a bare parameter."""

    def __init__(self, batch: int, device: torch.device, *, width: int = 256) -> None:
        """Make the networks and one batch of transitions.

        Args:
            batch: How many transitions a step takes.
            device: Where to train.
            width: Of the hidden layers.
        """
        torch.manual_seed(0)
        states, actions = 24, 6
        self.actor = _mlp(states, width, 2 * actions).to(device)
        self.critic = _mlp(states + actions, width, 1).to(device)
        self.target = _mlp(states + actions, width, 1).to(device)
        self.target.load_state_dict(self.critic.state_dict())
        self.target.requires_grad_(False)
        self.log_alpha = nn.Parameter(torch.zeros((), device=device))
        self.models: dict[str, Any] = {
            "actor": self.actor,
            "critic": self.critic,
            "target": self.target,
            "alpha": self.log_alpha,
        }
        self.policy: dict[str, Any] = {
            "critic_loss": "critic",
            "actor_loss": "actor",
            "alpha_loss": "alpha",
        }
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=1e-5)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=1e-5)
        self.alpha_optimizer = torch.optim.Adam([self.log_alpha], lr=1e-5)
        self.state, self.next_state = torch.randn(2, batch, states, device=device)
        self.action = torch.randn(batch, actions, device=device)
        self.reward = torch.randn(batch, 1, device=device)

    def _act(self, state: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.actor(state).chunk(2, dim=-1)
        std = log_std.clamp(-5, 2).exp()
        raw = mean + std * torch.randn_like(std)
        log_prob = (-0.5 * ((raw - mean) / std) ** 2 - std.log()).sum(-1, keepdim=True)
        return raw.tanh(), log_prob

    def step(self) -> None:
        """Train critic, actor and temperature, then move the target."""
        alpha = self.log_alpha.exp().detach()
        with torch.no_grad():
            action, log_prob = self._act(self.next_state)
            value = self.target(torch.cat([self.next_state, action], -1)) - alpha * log_prob
            wanted = self.reward + 0.99 * value
        estimate = self.critic(torch.cat([self.state, self.action], -1))
        critic_loss = nn.functional.mse_loss(estimate, wanted)
        self.critic_optimizer.zero_grad()
        critic_loss.backward()
        self.critic_optimizer.step()

        action, log_prob = self._act(self.state)
        estimate = self.critic(torch.cat([self.state, action], -1))
        actor_loss = (alpha * log_prob - estimate).mean()
        self.actor_optimizer.zero_grad()
        actor_loss.backward()
        self.actor_optimizer.step()

        alpha_loss = -(self.log_alpha.exp() * (log_prob.detach() - 6)).mean()
        self.alpha_optimizer.zero_grad()
        alpha_loss.backward()
        self.alpha_optimizer.step()
        with torch.no_grad():
            for mine, theirs in zip(
                self.target.parameters(), self.critic.parameters(), strict=True
            ):
                mine.lerp_(theirs, 0.005)

"""Correct training programs that run with and without a guard, step by step."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.checkpoint import checkpoint

import gradguard

Watching = gradguard.Guard | None


def mlp(inputs: int, outputs: int, *extras: nn.Module) -> nn.Sequential:
    """Build a perceptron with one hidden layer of six."""
    return nn.Sequential(nn.Linear(inputs, 6), *extras, nn.Tanh(), nn.Linear(6, outputs))


class Program:
    """A training loop's body over some models.

    Attributes:
        models: The models by name.
        policy: What each loss may train.
        optimizers: All optimizers.
    """

    models: dict[str, Any]
    policy: dict[str, Any]
    optimizers: list[Optimizer]

    def step(self, guard: Watching) -> None:
        """Run the body once; ``guard`` is for programs that name their losses to it."""
        raise NotImplementedError

    def parameters(self) -> Iterator[Tensor]:
        """Iterate over the parameters of all models that are not patterns over others."""
        for model in self.models.values():
            if isinstance(model, nn.Module):
                yield from model.parameters()
            elif isinstance(model, Tensor):
                yield model

    def state(self) -> list[Tensor]:
        """Copy everything that training changes, the random number generator included."""
        found = [part for p in self.parameters() for part in (p, p.grad) if part is not None]
        for model in self.models.values():
            found += model.buffers() if isinstance(model, nn.Module) else []
        for optimizer in self.optimizers:
            moments = [value for of_one in optimizer.state.values() for value in of_one.values()]
            found += [value for value in moments if isinstance(value, Tensor)]
        return [tensor.detach().clone() for tensor in found] + [torch.get_rng_state()]


class GAN(Program):
    """A critic and a generator in turn; each generator step spills into the critic."""

    set_to_none = True

    def __init__(self) -> None:
        """Build both networks, with batch norm and dropout."""
        self.critic = mlp(2, 1, nn.Dropout(0.3))
        self.generator = mlp(3, 2, nn.BatchNorm1d(6))
        self.models = {"critic": self.critic, "generator": self.generator}
        self.policy = {"critic_loss": "critic", "generator_loss": "generator"}
        self.critic_optimizer: Optimizer = torch.optim.RMSprop(
            self.critic.parameters(), momentum=0.5
        )
        self.generator_optimizer: Optimizer = torch.optim.Adam(self.generator.parameters())
        self.optimizers = [self.critic_optimizer, self.generator_optimizer]

    def step(self, guard: Watching) -> None:
        """Train the critic, then the generator through it."""
        del guard
        fake = self.generator(torch.randn(8, 3))
        critic_loss = self.critic(fake.detach()).mean() - self.critic(torch.randn(8, 2)).mean()
        self.critic_optimizer.zero_grad(set_to_none=self.set_to_none)
        critic_loss.backward()
        self.critic_optimizer.step()
        generator_loss = -self.critic(fake).mean()
        self.generator_optimizer.zero_grad(set_to_none=self.set_to_none)
        generator_loss.backward()
        self.generator_optimizer.step()


class ZeroedGAN(GAN):
    """The same, with gradients that are set to zero instead of None."""

    set_to_none = False


class ModuleZeroedGAN(GAN):
    """The same, with gradients that the modules set to zero."""

    def step(self, guard: Watching) -> None:
        """Clear both models by their modules before each loss."""
        del guard
        fake = self.generator(torch.randn(8, 3))
        critic_loss = self.critic(fake.detach()).square().mean()
        self.critic.zero_grad(set_to_none=False)
        critic_loss.backward()
        self.critic_optimizer.step()
        generator_loss = -self.critic(fake).mean()
        self.generator.zero_grad(set_to_none=False)
        generator_loss.backward()
        self.generator_optimizer.step()


class FilteredGAN(GAN):
    """A GAN whose losses run backward into the models that they train, and no others."""

    def step(self, guard: Watching) -> None:
        """Filter by the guard, or by the same leaves without it."""
        fake = self.generator(torch.randn(8, 3))
        critic_loss = self.critic(fake.detach()).mean()
        self.critic_optimizer.zero_grad()
        self._backward(critic_loss, "critic_loss", self.critic, guard)
        self.critic_optimizer.step()
        generator_loss = -self.critic(fake).mean()
        self.generator_optimizer.zero_grad()
        self._backward(generator_loss, "generator_loss", self.generator, guard)
        self.generator_optimizer.step()

    @staticmethod
    def _backward(loss: Tensor, name: str, model: nn.Module, guard: Watching) -> None:
        if guard is not None:
            guard.backward(loss, name)
        else:
            torch.autograd.backward(loss, inputs=list(model.parameters()))


class SAC(Program):
    """Actor, critic, a target that follows by averaging, and a learned temperature."""

    def __init__(self) -> None:
        """Build three networks and a bare parameter."""
        self.actor, self.critic, self.target = mlp(4, 4), mlp(6, 1), mlp(6, 1)
        self.target.load_state_dict(self.critic.state_dict())
        self.log_alpha = nn.Parameter(torch.zeros(()))
        self.models = {
            "actor": self.actor,
            "critic": self.critic,
            "target": self.target,
            "alpha": self.log_alpha,
        }
        self.policy = {
            "critic_loss": "critic",
            "actor_loss": gradguard.must("actor") | gradguard.never("critic", "target", "alpha"),
            "alpha_loss": {"only": ["alpha"]},
        }
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters())
        self.critic_optimizer = torch.optim.AdamW(self.critic.parameters())
        self.alpha_optimizer = torch.optim.SGD([self.log_alpha], lr=0.1, momentum=0.9)
        self.optimizers = [self.actor_optimizer, self.critic_optimizer, self.alpha_optimizer]

    def _act(self, state: Tensor) -> tuple[Tensor, Tensor]:
        mean, scale = self.actor(state).chunk(2, dim=-1)
        noise = torch.randn_like(mean)
        action = mean + noise * scale.exp()
        return action.tanh(), -(noise.square() / 2 + scale).sum(-1, keepdim=True)

    def step(self, guard: Watching) -> None:
        """Train critic, actor and temperature, then move the target."""
        del guard
        state, action = torch.randn(8, 4), torch.randn(8, 2)
        alpha = self.log_alpha.exp().detach()
        with torch.no_grad():
            following, log_prob = self._act(state)
            wanted = self.target(torch.cat([state, following], -1)) - alpha * log_prob
        critic_loss = (self.critic(torch.cat([state, action], -1)) - wanted).square().mean()
        self.critic_optimizer.zero_grad()
        critic_loss.backward()
        self.critic_optimizer.step()
        following, log_prob = self._act(state)
        estimate = self.critic(torch.cat([state, following], -1))
        actor_loss = (alpha * log_prob - estimate).mean()
        self.actor_optimizer.zero_grad()
        actor_loss.backward()
        self.actor_optimizer.step()
        alpha_loss = -(self.log_alpha * (log_prob.detach() - 2)).mean()
        self.alpha_optimizer.zero_grad()
        alpha_loss.backward()
        self.alpha_optimizer.step()
        with torch.no_grad():
            for mine, theirs in zip(
                self.target.parameters(), self.critic.parameters(), strict=True
            ):
                mine.lerp_(theirs, 0.05)


class Accumulation(GAN):
    """Gradients of three micro-batches go into one step of each model."""

    def step(self, guard: Watching) -> None:
        """Add up three backwards before each step."""
        del guard
        self.critic_optimizer.zero_grad()
        for _ in range(3):
            critic_loss = self.critic(self.generator(torch.randn(8, 3)).detach()).mean() / 3
            critic_loss.backward()
        self.critic_optimizer.step()
        self.generator_optimizer.zero_grad()
        for _ in range(3):
            generator_loss = -self.critic(self.generator(torch.randn(8, 3))).mean() / 3
            generator_loss.backward()
        self.generator_optimizer.step()


class Scaled(GAN):
    """Mixed precision: losses are scaled before backward and gradients unscaled before a step.

    Fused optimizers find infinities where the gradients are, so not even the plain program reads
    a value.
    """

    def __init__(self) -> None:
        """Build the networks and a scaler."""
        super().__init__()
        self.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), fused=True)
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), fused=True)
        self.optimizers = [self.critic_optimizer, self.generator_optimizer]

    def step(self, guard: Watching) -> None:
        """Train both models in bfloat16."""
        del guard
        with torch.autocast("cpu", torch.bfloat16):
            fake = self.generator(torch.randn(8, 3))
            critic_loss = self.critic(fake.detach()).float().mean()
            generator_loss = -self.critic(fake).float().mean()
        self.generator_optimizer.zero_grad()
        self.scaler.scale(generator_loss).backward()
        self.scaler.step(self.generator_optimizer)
        self.critic_optimizer.zero_grad()
        self.scaler.scale(critic_loss).backward()
        self.scaler.step(self.critic_optimizer)
        self.scaler.update()


class Adapted(nn.Module):
    """A frozen linear layer with a trainable low-rank adapter."""

    def __init__(self) -> None:
        """Begin with an adapter that adds nothing."""
        super().__init__()
        self.base = nn.Linear(4, 4).requires_grad_(False)
        self.lora_a = nn.Parameter(torch.randn(2, 4))
        self.lora_b = nn.Parameter(torch.zeros(4, 2))

    def forward(self, inputs: Tensor) -> Tensor:
        """Add the adapter's answer to the base's."""
        output: Tensor = self.base(inputs)
        return output + inputs @ self.lora_a.T @ self.lora_b.T


class LoRA(Program):
    """Adapters are trained inside a frozen base that also serves as its own reference."""

    def __init__(self) -> None:
        """Stack two adapted layers."""
        self.policy_net = nn.Sequential(Adapted(), nn.Tanh(), Adapted())
        self.models = {
            "policy": self.policy_net,
            "adapter": "policy.*lora_*",
            "base": "policy.*base*",
        }
        self.policy = {"tuning_loss": gradguard.must("adapter") | gradguard.never("base")}
        adapter = [p for name, p in self.policy_net.named_parameters() if "lora" in name]
        self.optimizer = torch.optim.AdamW(adapter)
        self.optimizers = [self.optimizer]

    def step(self, guard: Watching) -> None:
        """Move towards a target, held by the network as it was."""
        del guard
        inputs = torch.randn(8, 4)
        with torch.no_grad():
            reference = self.policy_net(inputs)
        answer = self.policy_net(inputs)
        tuning_loss = (answer - 1).square().mean() + (answer - reference).square().mean()
        self.optimizer.zero_grad()
        tuning_loss.backward()
        self.optimizer.step()


class Joint(Program):
    """Two named losses run backward as one sum, over a shared encoder."""

    def __init__(self) -> None:
        """Build an encoder with two heads."""
        self.encoder, self.actor, self.critic = mlp(4, 3), mlp(3, 2), mlp(3, 1)
        self.models = {"encoder": self.encoder, "actor": self.actor, "critic": self.critic}
        self.policy = {
            "policy_loss": gradguard.must("actor") | gradguard.never("critic"),
            "value_loss": ["critic", "encoder"],
        }
        everything = [p for model in self.models.values() for p in model.parameters()]
        self.optimizer = torch.optim.Adam(everything)
        self.optimizers = [self.optimizer]

    def step(self, guard: Watching) -> None:
        """Name both terms to the guard and run their sum backward."""
        code = self.encoder(torch.randn(8, 4))
        policy_loss = (self.actor(code) * torch.randn(8, 2)).mean()
        value_loss = self.critic(code).square().mean()
        if guard is not None:
            guard.watch(policy_loss=policy_loss, value_loss=value_loss)
        self.optimizer.zero_grad()
        (policy_loss + 0.5 * value_loss).backward()
        self.optimizer.step()


class Checkpointed(GAN):
    """A GAN whose generator's activations are computed again in backward."""

    def step(self, guard: Watching) -> None:
        """Train the generator through both networks."""
        del guard
        fake = checkpoint(self.generator, torch.randn(8, 3), use_reentrant=False)
        critic_loss = self.critic(fake.detach()).square().mean()
        self.critic_optimizer.zero_grad()
        critic_loss.backward()
        self.critic_optimizer.step()
        generator_loss = -self.critic(fake).mean()
        self.generator_optimizer.zero_grad()
        generator_loss.backward()
        self.generator_optimizer.step()


class Penalised(GAN):
    """A critic whose slope between real and made samples is held near one: gradient of gradient."""

    def step(self, guard: Watching) -> None:
        """Train the critic with the penalty, then the generator through it."""
        del guard
        real, fake = torch.randn(8, 2), self.generator(torch.randn(8, 3))
        between = torch.lerp(real, fake.detach(), torch.rand(8, 1)).requires_grad_()
        scores = self.critic(between).sum()
        [slope] = torch.autograd.grad(scores, between, create_graph=True)
        critic_loss = self.critic(fake.detach()).mean() - self.critic(real).mean()
        critic_loss = critic_loss + 10 * (slope.norm(dim=1) - 1).square().mean()
        self.critic_optimizer.zero_grad()
        critic_loss.backward()
        self.critic_optimizer.step()
        generator_loss = -self.critic(fake).mean()
        self.generator_optimizer.zero_grad()
        generator_loss.backward()
        self.generator_optimizer.step()


PROGRAMS: dict[str, Callable[[], Program]] = {
    "gan": GAN,
    "gan, gradients set to zero": ZeroedGAN,
    "gan, modules set to zero": ModuleZeroedGAN,
    "gan, filtered": FilteredGAN,
    "sac": SAC,
    "accumulation": Accumulation,
    "scaled": Scaled,
    "lora": LoRA,
    "joint": Joint,
    "checkpoint": Checkpointed,
    "penalty": Penalised,
}

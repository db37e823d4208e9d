"""Kinds of graph: how and when a model is called, or used without being called."""

# ruff: noqa: D103  A kind is described by its name and its claims.

import threading
from collections.abc import Callable
from typing import NamedTuple

import torch
from graph_kinds_base import (
    Stages,
    data,
    kind,
    leak,
    meant,
    net,
    none,
    of,
    spill,
    zero,
)
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

_GAN_WITH_A_LIVE_FAKE = (
    of(
        "critic_loss",
        "critic",
        critic=meant("it is what the critic's loss trains"),
        generator=leak("behind the generator lies only noise"),
    ),
    of(
        "generator_loss",
        "generator",
        critic=spill("the critic is on the way to the generator"),
        generator=meant("it is what the generator's loss trains"),
    ),
)


class _Critic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.label = net(2, 4), nn.Linear(4, 1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        score: Tensor = self.head(self.body(x))
        return score


@kind(*_GAN_WITH_A_LIVE_FAKE)
def submodules_called_directly() -> Stages:
    generator, critic = net(2, 2), _Critic()
    yield {"generator": generator, "critic": critic}
    score = critic.head(critic.body(generator(data(2)))).mean()
    yield {"critic_loss": score, "generator_loss": score * -2}


@kind(*_GAN_WITH_A_LIVE_FAKE, detachable=False)
def weight_used_without_a_call() -> Stages:
    generator, critic = net(2, 2), nn.Linear(2, 1)
    yield {"generator": generator, "critic": critic}
    score = functional.linear(generator(data(2)), critic.weight, critic.bias).mean()
    yield {"critic_loss": score, "generator_loss": score * -2}


@kind(*_GAN_WITH_A_LIVE_FAKE, detachable=False)
def weight_cast_and_transposed_before_it_is_used() -> Stages:
    generator, critic = net(2, 2), nn.Linear(2, 1)
    yield {"generator": generator, "critic": critic}
    weight = critic.weight.double().mT.contiguous()
    score = (generator(data(2)).double() @ weight).mean()
    yield {"critic_loss": score, "generator_loss": score * -2}


@kind(*_GAN_WITH_A_LIVE_FAKE, detachable=False)
def both_models_used_without_a_call() -> Stages:
    generator, critic = nn.Linear(2, 2), nn.Linear(2, 1)
    yield {"generator": generator, "critic": critic}
    fake = torch.tanh(functional.linear(data(2), generator.weight, generator.bias))
    score = functional.linear(fake, critic.weight, critic.bias).mean()
    yield {"critic_loss": score, "generator_loss": score * -2}


@kind(*_GAN_WITH_A_LIVE_FAKE)
def functional_call_with_its_own_parameters() -> Stages:
    generator, critic = net(2, 2), net(2, 1)
    yield {"generator": generator, "critic": critic}
    score = functional_call(critic, dict(critic.named_parameters()), (generator(data(2)),)).mean()
    yield {"critic_loss": score, "generator_loss": score * -2}


@kind(
    of(
        "generator_loss",
        "generator",
        critic=none("its parameters were detached for the call"),
        generator=meant("it is what the loss trains"),
    )
)
def functional_call_with_detached_parameters() -> Stages:
    generator, critic = net(2, 2), net(2, 1)
    yield {"generator": generator, "critic": critic}
    held = {name: parameter.detach() for name, parameter in critic.named_parameters()}
    yield {"generator_loss": -functional_call(critic, held, (generator(data(2)),)).mean()}


@kind(
    of(
        "generator_loss",
        "generator",
        critics=none("the stacked parameters are copies"),
        generator=meant("it is what the loss trains"),
    )
)
def ensemble_under_vmap() -> Stages:
    generator, critics = net(2, 2), nn.ModuleList([net(2, 1), net(2, 1)])
    yield {"generator": generator, "critics": critics}
    parameters, buffers = stack_module_state(list(critics))

    def score(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        judged: Tensor = functional_call(critics[0], (parameters, buffers), (x,))
        return judged

    scores = vmap(score, in_dims=(0, 0, None))(parameters, buffers, generator(data(2)))
    yield {"generator_loss": -scores.min(0).values.mean()}


class _Output(NamedTuple):
    score: Tensor
    extra: dict[str, list[Tensor]]


class _Structured(nn.Module):
    """A model that returns its tensors inside of containers."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body, self.side = net(inputs, outputs), nn.Linear(inputs, outputs)

    def forward(self, batch: dict[str, Tensor]) -> _Output:
        return _Output(self.body(batch["x"]), {"features": [self.side(batch["x"])]})


@kind(*_GAN_WITH_A_LIVE_FAKE)
def outputs_inside_lists_and_dictionaries() -> Stages:
    generator, critic = _Structured(2, 2), _Structured(2, 1)
    yield {"generator": generator, "critic": critic}
    fake = generator({"x": data(2)}).extra["features"][0]
    score = critic({"x": fake}).extra["features"][0].mean()
    yield {"critic_loss": score, "generator_loss": score * -2}


@kind(*_GAN_WITH_A_LIVE_FAKE)
def models_in_evaluation_mode() -> Stages:
    generator = nn.Sequential(net(2, 2), nn.BatchNorm1d(2), nn.Dropout()).eval()
    critic = nn.Sequential(nn.Dropout(), net(2, 1)).eval()
    yield {"generator": generator, "critic": critic}
    score = critic(generator(data(2))).mean()
    yield {"critic_loss": score, "generator_loss": score * -2}


class _TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.realism, self.label = net(2, 4), nn.Linear(4, 1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(x)
        return self.realism(features), self.label(features)


@kind(*_GAN_WITH_A_LIVE_FAKE)
def one_head_of_two_is_used() -> Stages:
    generator, critic = net(2, 2), _TwoHeads()
    yield {"generator": generator, "critic": critic}
    realism, _ = critic(generator(data(2)))
    yield {"critic_loss": realism.mean(), "generator_loss": -2 * realism.mean()}


@kind(*_GAN_WITH_A_LIVE_FAKE)
def output_cached_for_both_losses() -> Stages:
    generator, critic = net(2, 2), net(2, 1)
    yield {"generator": generator, "critic": critic}
    cache = {"fake": generator(data(2))}
    score = critic(cache["fake"].detach()).mean() + 0.1 * critic(cache["fake"]).mean()
    yield {"critic_loss": score, "generator_loss": -critic(cache["fake"]).mean()}


@kind(
    of(
        "critic_loss",
        "critic",
        critic=meant("it is what the loss trains"),
        generator=leak("one of the generator's two calls was not detached"),
    )
)
def called_twice_and_detached_once() -> Stages:
    generator, critic = net(2, 2), net(2, 1)
    yield {"generator": generator, "critic": critic}
    first, second = generator(data(2)).detach(), generator(data(2))
    yield {"critic_loss": critic(first).mean() - critic(second).mean()}


@kind(*_GAN_WITH_A_LIVE_FAKE, detachable=False)
def forward_ran_before_the_guard() -> Stages:
    generator, critic = net(2, 2), net(2, 1)
    score = critic(generator(data(2))).mean()
    yield {"generator": generator, "critic": critic}
    yield {"critic_loss": score, "generator_loss": score * -2}


@kind(*_GAN_WITH_A_LIVE_FAKE, detachable=False)
def relativistic_forward_before_the_guard() -> Stages:
    generator, critic = net(2, 2), net(2, 1)
    real, fake = critic(data(2)), critic(generator(data(2)))
    yield {"generator": generator, "critic": critic}
    loss = functional.softplus(fake - real).mean()
    yield {"critic_loss": loss, "generator_loss": loss * -2}


@kind(*_GAN_WITH_A_LIVE_FAKE, detachable=False)
def normalised_weights_and_forward_before_the_guard() -> Stages:
    generator = parametrizations.weight_norm(nn.Linear(2, 2))
    critic = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(2, 4, bias=False)),
        nn.Tanh(),
        parametrizations.spectral_norm(nn.Linear(4, 1, bias=False)),
    )
    score = critic(generator(data(2))).mean()
    yield {"generator": generator, "critic": critic}
    yield {"critic_loss": score, "generator_loss": score * -2}


@kind(*_GAN_WITH_A_LIVE_FAKE, detachable=False)
def generator_called_before_the_guard_and_critic_inside() -> Stages:
    generator, critic = net(2, 2), net(2, 1)
    fake = generator(data(2))
    yield {"generator": generator, "critic": critic}
    score = critic(fake).mean()
    yield {"critic_loss": score, "generator_loss": score * -2}


@kind(*_GAN_WITH_A_LIVE_FAKE)
def output_changed_in_place() -> Stages:
    generator, critic = net(2, 2), _Critic()
    yield {"generator": generator, "critic": critic}
    fake = generator(data(2)).mul_(2).add_(1).clamp_(-3, 3)
    features = critic.body(fake).sub_(0.5)
    score = critic.head(features).neg_().mean()
    yield {"critic_loss": score, "generator_loss": score * -2}


@kind(*_GAN_WITH_A_LIVE_FAKE)
def view_of_the_output_changed_in_place() -> Stages:
    generator, critic = net(2, 2), _Critic()
    yield {"generator": generator, "critic": critic}
    fake = generator(data(2))
    fake[:, 0].mul_(2)
    fake[0] = 0.0
    features = critic.body(fake)
    features.view(-1)[:2].add_(features.new_ones(2))
    score = critic.head(features).mean()
    yield {"critic_loss": score, "generator_loss": score * -2}


class _Masking(nn.Module):
    """A model that changes a view inside of its call, and returns another view."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs * 2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.linear(x)
        result[:, ::2].mul_(0.5)
        left, right = result.tensor_split(2, dim=1)
        return left + right


@kind(*_GAN_WITH_A_LIVE_FAKE)
def view_changed_in_place_inside_the_call() -> Stages:
    generator, critic = _Masking(2, 2), _Masking(2, 1)
    yield {"generator": generator, "critic": critic}
    score = critic(generator(data(2))).mean()
    yield {"critic_loss": score, "generator_loss": score * -2}


@kind(*_GAN_WITH_A_LIVE_FAKE)
def non_reentrant_checkpoint() -> Stages:
    generator, critic = net(2, 2), net(2, 1)
    yield {"generator": generator, "critic": critic}
    fake = checkpoint(generator, data(2), use_reentrant=False)
    score = checkpoint(critic, fake, use_reentrant=False).mean()
    yield {"critic_loss": score, "generator_loss": score * -2}


@kind(*_GAN_WITH_A_LIVE_FAKE, detachable=False)
def reentrant_checkpoint_around_the_critic() -> Stages:
    generator, critic = net(2, 2), net(2, 1)
    yield {"generator": generator, "critic": critic}
    score = checkpoint(critic, generator(data(2)), use_reentrant=True).mean()
    yield {"critic_loss": score, "generator_loss": score * -2}


@kind(*_GAN_WITH_A_LIVE_FAKE, detachable=False)
def reentrant_checkpoint_around_the_generator() -> Stages:
    generator, critic = net(2, 2), net(2, 1)
    yield {"generator": generator, "critic": critic}
    noise = data(2).requires_grad_()
    score = critic(checkpoint(generator, noise, use_reentrant=True)).mean()
    yield {"critic_loss": score, "generator_loss": score * -2}


@kind(
    of(
        "generator_loss",
        "generator",
        critic=none("it takes no part"),
        generator=meant("it is what the loss trains"),
    ),
    of(
        "critic_loss",
        "critic",
        critic=meant("it is what the loss trains"),
        generator=zero("only zeros are added to the gradient that it already has"),
    ),
    detachable=False,
)
def reentrant_checkpoint_multiplied_by_zero() -> Stages:
    generator, critic = net(2, 2), net(2, 1)
    yield {"generator": generator, "critic": critic}
    fake = checkpoint(generator, data(2).requires_grad_(), use_reentrant=True)
    yield {
        "generator_loss": fake.square().mean(),
        "critic_loss": critic(data(2)).mean() + 0 * fake.sum(),
    }


@kind(*_GAN_WITH_A_LIVE_FAKE, detachable=False)
def generator_compiled() -> Stages:
    generator, critic = net(2, 2), net(2, 1)
    # A backward that was compiled for graphs to be freed refuses one that retains its graph.
    torch._dynamo.reset()
    compiled = torch.compile(generator, backend="aot_eager")
    yield {"generator": generator, "critic": critic}
    score = critic(compiled(data(2))).mean()
    yield {"critic_loss": score, "generator_loss": score * -2}


@kind(*_GAN_WITH_A_LIVE_FAKE, joint=True)
def losses_summed_before_one_backward() -> Stages:
    generator, critic = net(2, 2), net(2, 1)
    yield {"generator": generator, "critic": critic}
    fake = generator(data(2))
    critic_loss = critic(fake).mean() - critic(data(2)).mean()
    yield {"critic_loss": critic_loss, "generator_loss": -2 * critic(fake).mean()}


@kind(
    of(
        "actor_loss",
        "actor",
        actor=meant("it is what the loss trains"),
        value=none("its own term takes no part in this loss"),
    ),
    of(
        "value_loss",
        "value",
        actor=none("its own term takes no part in this loss"),
        value=meant("it is what the loss trains"),
    ),
    joint=True,
)
def clean_losses_summed_before_one_backward() -> Stages:
    actor, value = net(2, 2), net(2, 1)
    yield {"actor": actor, "value": value}
    state, outcome = data(2), data(1)
    estimate = value(state)
    log_probability = torch.log_softmax(actor(state), dim=1)[:, :1]
    yield {
        "actor_loss": -(log_probability * (outcome - estimate.detach())).mean(),
        "value_loss": functional.mse_loss(estimate, outcome),
    }


def _in_a_thread(call: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    results: list[Tensor] = []
    thread = threading.Thread(target=lambda: results.append(call(x)))
    thread.start()
    thread.join()
    return results[0]


@kind(*_GAN_WITH_A_LIVE_FAKE)
def each_model_called_in_a_thread_of_its_own() -> Stages:
    generator, critic = net(2, 2), net(2, 1)
    yield {"generator": generator, "critic": critic}
    score = _in_a_thread(critic, _in_a_thread(generator, data(2))).mean()
    yield {"critic_loss": score, "generator_loss": score * -2}


@kind(
    of(
        "critic_loss",
        "critic",
        critic=meant("it is what the loss trains"),
        generator=none("its call ran under no_grad"),
    )
)
def generator_called_without_gradient() -> Stages:
    generator, critic = net(2, 2), net(2, 1)
    yield {"generator": generator, "critic": critic}
    with torch.no_grad():
        fake = generator(data(2))
    yield {"critic_loss": critic(fake).mean() - critic(data(2)).mean()}


@kind(*_GAN_WITH_A_LIVE_FAKE)
def features_captured_by_a_forward_hook() -> Stages:
    generator, critic = net(2, 2), _Critic()
    yield {"generator": generator, "critic": critic}
    captured: list[Tensor] = []
    critic.body[1].register_forward_hook(lambda _module, _args, output: captured.append(output))
    critic(generator(data(2)))
    loss = captured[0].square().mean()
    yield {"critic_loss": loss, "generator_loss": loss * -2}


@kind(
    of(
        "critic_loss",
        "critic",
        critic=meant("it is what the loss trains"),
        generator=zero("it takes part, as a distributed wrapper wants, but counts for nothing"),
    )
)
def output_multiplied_by_zero() -> Stages:
    generator, critic = net(2, 2), net(2, 1)
    yield {"generator": generator, "critic": critic}
    yield {"critic_loss": critic(data(2)).mean() + 0 * generator(data(2)).sum()}

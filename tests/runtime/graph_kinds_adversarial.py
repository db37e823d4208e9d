"""Kinds of graph: critics, generators and everything that plays one against the other."""

# ruff: noqa: D103  A kind is described by its name and its claims.

from typing import Any

import torch
from graph_kinds_base import (
    Stages,
    data,
    excused,
    kind,
    leak,
    meant,
    net,
    none,
    of,
    spill,
    starved,
)
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations


def _penalty(critic: nn.Module, points: Tensor) -> Tensor:
    slope: Tensor
    (slope,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    penalty: Tensor = (torch.linalg.vector_norm(slope, dim=1) - 1).square().mean()
    return penalty


@kind(
    of(
        "critic_loss",
        "critic",
        critic=meant("it is what the critic's loss trains"),
        generator=leak("below the generator's call lies only noise"),
    ),
    of(
        "generator_loss",
        "generator",
        critic=spill("the generator lies below the critic's call"),
        generator=meant("it is what the generator's loss trains"),
    ),
)
def gan_with_a_live_fake() -> Stages:
    generator, critic = net(2, 2), net(2, 1)
    yield {"generator": generator, "critic": critic}
    fake = generator(data(2))
    score = critic(fake).mean()
    yield {"critic_loss": score - critic(data(2)).mean(), "generator_loss": -2 * score}


@kind(
    of(
        "critic_loss",
        "critic",
        critic=meant("it is what the critic's loss trains"),
        generator=none("the fake was detached"),
    ),
    of(
        "generator_loss",
        "generator",
        critic=spill("the generator lies below the critic's call"),
        generator=meant("it is what the generator's loss trains"),
    ),
)
def gan_with_a_detached_fake() -> Stages:
    generator, critic = net(2, 2), net(2, 1)
    yield {"generator": generator, "critic": critic}
    fake = generator(data(2))
    yield {
        "critic_loss": critic(fake.detach()).mean() - critic(data(2)).mean(),
        "generator_loss": -critic(fake).mean(),
    }


@kind(
    of(
        "critic_loss",
        "critic",
        critic=meant("it is what the critic's loss trains"),
        generator=leak("below the generator's call lies only noise"),
    ),
    of(
        "generator_loss",
        "generator",
        critic=spill("the product that is the critic's whole call has the generator below"),
        generator=meant("it is what the generator's loss trains"),
    ),
)
def bias_free_layers() -> Stages:
    generator, critic = net(2, 2, bias=False), nn.Linear(2, 1, bias=False)
    yield {"generator": generator, "critic": critic}
    fake = generator(data(2))
    yield {"critic_loss": critic(fake).mean(), "generator_loss": -2 * critic(fake).mean()}


@kind(
    of(
        "critic_loss",
        "critic",
        critic=meant("it is what the critic's loss trains"),
        generator=leak("below the generator's call lies only noise"),
    ),
    of(
        "generator_loss",
        "generator",
        critic=spill("the normalised weights meet the generator's output inside the call"),
        generator=meant("it is what the generator's loss trains"),
    ),
)
def spectral_norm() -> Stages:
    generator = net(2, 2)
    critic = nn.Sequential(
        parametrizations.spectral_norm(nn.Linear(2, 4)),
        nn.LeakyReLU(0.2),
        parametrizations.spectral_norm(nn.Linear(4, 1)),
    )
    yield {"generator": generator, "critic": critic}
    fake = generator(data(2))
    yield {"critic_loss": critic(fake).mean(), "generator_loss": -2 * critic(fake).mean()}


@kind(
    of(
        "critic_loss",
        "critic",
        critic=meant("it is what the critic's loss trains"),
        generator=leak("its weights come from its own parameters and its input is noise"),
    ),
    of(
        "generator_loss",
        "generator",
        critic=spill("the generator lies below the critic's call"),
        generator=meant("it is what the generator's loss trains"),
    ),
)
def weight_norm() -> Stages:
    generator = nn.Sequential(parametrizations.weight_norm(nn.Linear(2, 2)), nn.Tanh())
    critic = parametrizations.weight_norm(nn.Linear(2, 1))
    yield {"generator": generator, "critic": critic}
    fake = generator(data(2))
    yield {"critic_loss": critic(fake).mean(), "generator_loss": -2 * critic(fake).mean()}


@kind(
    of(
        "matching_loss",
        "generator",
        critic=spill("one call of the critic's body has the generator below; the other has data"),
        generator=meant("it is what the loss trains"),
    ),
    of(
        "critic_loss",
        "critic",
        critic=meant("it is what the loss trains"),
        generator=none("the fake was detached"),
    ),
)
def feature_matching() -> Stages:
    generator = net(2, 2)
    critic = nn.ModuleDict({"body": net(2, 4), "head": nn.Linear(4, 1)})
    yield {"generator": generator, "critic": critic}
    fake = generator(data(2))
    real = critic["body"](data(2))
    yield {
        "matching_loss": functional.mse_loss(critic["body"](fake), real),
        "critic_loss": critic["head"](critic["body"](fake.detach()) - real).mean(),
    }


@kind(
    of(
        "generator_loss",
        "generator",
        critic=spill("critic(fake) passes; that critic(real) does not changes nothing"),
        generator=meant("it is what the loss trains"),
    ),
    of(
        "critic_loss",
        "critic",
        critic=meant("it is what the loss trains"),
        generator=leak("the fake is live and only noise lies behind the generator"),
    ),
)
def relativistic_loss() -> Stages:
    generator, critic = net(2, 2), net(2, 1)
    yield {"generator": generator, "critic": critic}
    real, fake = data(2), generator(data(2))
    yield {
        "generator_loss": functional.softplus(critic(real) - critic(fake)).mean(),
        "critic_loss": functional.softplus(critic(fake) - critic(real)).mean(),
    }


@kind(
    of(
        "generator_loss",
        "generator",
        critic=spill("the one call took real and fake together"),
        generator=meant("it is what the loss trains"),
    ),
    of(
        "critic_loss",
        "critic",
        critic=meant("it is what the loss trains"),
        generator=leak("half of the batch is the live fake"),
    ),
)
def real_and_fake_in_one_batch() -> Stages:
    generator, critic = net(2, 2), net(2, 1)
    yield {"generator": generator, "critic": critic}
    score = critic(torch.cat([data(2), generator(data(2))]))
    real, fake = score.chunk(2)
    yield {"generator_loss": -2 * fake.mean(), "critic_loss": fake.mean() - real.mean()}


@kind(
    of(
        "critic_loss",
        "critic",
        critic=meant("score and penalty both train it"),
        generator=none("the interpolates are a leaf of their own"),
    )
)
def gradient_penalty() -> Stages:
    generator, critic = net(2, 2), net(2, 1)
    yield {"generator": generator, "critic": critic}
    real, fake = data(2), generator(data(2)).detach()
    between = (0.5 * real + 0.5 * fake).requires_grad_()
    yield {"critic_loss": critic(fake).mean() + _penalty(critic, between)}


@kind(
    of(
        "critic_loss",
        "critic",
        critic=meant("the penalty trains it"),
        generator=leak("the interpolates carry the generator, behind which lies only noise"),
    ),
    of(
        "generator_loss",
        "generator",
        critic=spill("the critic's call, reached through its slope, has the generator below"),
        generator=meant("it is what the loss trains"),
    ),
)
def gradient_penalty_on_live_interpolates() -> Stages:
    generator, critic = net(2, 2), net(2, 1)
    yield {"generator": generator, "critic": critic}
    between = 0.5 * data(2) + 0.5 * generator(data(2))
    penalty = _penalty(critic, between)
    yield {"critic_loss": penalty, "generator_loss": penalty * 2}


@kind(
    of(
        "encoder_loss",
        {"never": ["critic"]},
        critic=leak("only the interpolates lie below it, and they are no parameter"),
        encoder=meant("the rule leaves it free"),
    ),
    detachable=False,
)
def interpolates_count_for_nothing() -> Stages:
    encoder, critic = net(2, 2), net(2, 1)
    yield {"encoder": encoder, "critic": critic}
    between = data(2).requires_grad_()
    yield {"encoder_loss": encoder(data(2)).mean() + _penalty(critic, between)}


@kind(
    of(
        "generator_loss",
        ["to_b", "to_a"],
        to_b=meant("one of the two it trains"),
        to_a=meant("one of the two it trains"),
        critic_a=spill("to_a lies below it"),
        critic_b=spill("to_b lies below it"),
    ),
    of(
        "critic_a_loss",
        "critic_a",
        to_b=none("it made no a"),
        to_a=leak("the fake a is live"),
        critic_a=meant("it is what the loss trains"),
        critic_b=none("it judges b"),
    ),
    of(
        "critic_b_loss",
        "critic_b",
        to_b=leak("below it lies to_a, which this loss may not train either"),
        to_a=leak("it made the input of to_b"),
        critic_a=none("it judges a"),
        critic_b=meant("it is what the loss trains"),
    ),
)
def cycle_gan() -> Stages:
    to_b, to_a = net(2, 2), net(2, 2)
    critic_a, critic_b = net(2, 1), net(2, 1)
    yield {"to_b": to_b, "to_a": to_a, "critic_a": critic_a, "critic_b": critic_b}
    a, b = data(2), data(2)
    fake_b, fake_a = to_b(a), to_a(b)
    cycle_b = to_b(fake_a)
    cycle = functional.l1_loss(to_a(fake_b), a) + functional.l1_loss(cycle_b, b)
    yield {
        "generator_loss": cycle - critic_a(fake_a).mean() - critic_b(fake_b).mean(),
        "critic_a_loss": critic_a(fake_a).mean() - critic_a(a).mean(),
        "critic_b_loss": critic_b(cycle_b).mean() - critic_b(b).mean(),
    }


@kind(
    of(
        "generator_loss",
        "generator",
        critic=none("its parameters want no gradient during this step"),
        generator=meant("it is what the loss trains"),
    )
)
def critic_frozen_for_the_step() -> Stages:
    generator, critic = net(2, 2), net(2, 1).requires_grad_(False)
    yield {"generator": generator, "critic": critic}
    yield {"generator_loss": -critic(generator(data(2))).mean()}


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, features: Tensor) -> Tensor:
        return features.view_as(features)

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        return -gradients[0]


@kind(
    of(
        "domain_loss",
        "domain",
        encoder=leak("it is reached through the reversal, and only data lies behind it"),
        domain=meant("it is what the loss trains"),
    ),
    of(
        "confusion_loss",
        "encoder",
        encoder=meant("it is what the loss trains"),
        domain=spill("the encoder lies below it, behind the reversal"),
    ),
)
def gradient_reversal() -> Stages:
    encoder, domain = net(2, 2), net(2, 1)
    yield {"encoder": encoder, "domain": domain}
    reversed_features: Tensor = _Reverse.apply(encoder(data(2)))  # type: ignore[no-untyped-call]
    loss = domain(reversed_features).square().mean()
    yield {"domain_loss": loss, "confusion_loss": loss * 2}


class _ProjectionCritic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image, self.label, self.head = net(2, 4), nn.Embedding(3, 4), nn.Linear(4, 1)

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        features = self.image(image)
        projection = (features * self.label(label)).sum(1, keepdim=True)
        score: Tensor = self.head(features) + projection
        return score


@kind(
    of(
        "generator_loss",
        "generator",
        critic=spill("its call has the generator below, whatever its label tower sees"),
        generator=meant("it is what the loss trains"),
    )
)
def label_tower_inside_the_critic() -> Stages:
    generator, critic = net(2, 2), _ProjectionCritic()
    yield {"generator": generator, "critic": critic}
    yield {"generator_loss": -critic(generator(data(2)), torch.tensor([0, 1, 2])).mean()}


@kind(
    of(
        "generator_loss",
        "generator",
        critic=spill("the image tower's call has the generator below; one is enough"),
        generator=meant("it is what the loss trains"),
    )
)
def label_tower_called_beside_the_image_tower() -> Stages:
    generator, critic = net(2, 2), _ProjectionCritic()
    yield {"generator": generator, "critic": critic}
    label = critic.label(torch.tensor([0, 1, 2]))
    yield {"generator_loss": -(critic.image(generator(data(2))) * label).sum(1).mean()}


class _TokenCritic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token, self.embed = nn.Parameter(torch.randn(1, 1, 4)), nn.Linear(2, 4)
        self.mix, self.head = nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, patches: Tensor) -> Tensor:
        tokens = torch.cat([self.token.expand(len(patches), 1, 4), self.embed(patches)], dim=1)
        weights = torch.softmax(tokens @ self.mix(tokens).mT, dim=-1)
        score: Tensor = self.head((weights @ tokens)[:, 0])
        return score


@kind(
    of(
        "generator_loss",
        "generator",
        critic=spill("the call passes, though nothing lies behind the class token itself"),
        generator=meant("it is what the loss trains"),
    ),
    of(
        "critic_loss",
        "critic",
        critic=meant("it is what the loss trains"),
        generator=leak("the fake patches are live"),
    ),
)
def class_token() -> Stages:
    generator, critic = net(2, 6), _TokenCritic()
    yield {"generator": generator, "critic": critic}
    score = critic(generator(data(2)).unflatten(1, (3, 2))).mean()
    yield {"generator_loss": -score, "critic_loss": score * 2}


@kind(
    of(
        "autoencoder_loss",
        ["encoder", "decoder"],
        encoder=meant("one of the two it trains"),
        decoder=meant("one of the two it trains"),
        critic=spill("the decoder lies below it"),
    )
)
def gradients_read_for_an_adaptive_weight() -> Stages:
    encoder, decoder, critic = net(2, 2), net(2, 2), net(2, 1)
    yield {"encoder": encoder, "decoder": decoder, "critic": critic}
    x = data(2)
    fake = decoder(encoder(x))
    reconstruction, adversarial = functional.mse_loss(fake, x), -critic(fake).mean()
    last = next(decoder[2].parameters())
    (near,) = torch.autograd.grad(reconstruction, last, retain_graph=True)
    (far,) = torch.autograd.grad(adversarial, last, retain_graph=True)
    yield {"autoencoder_loss": reconstruction + near.norm() / (far.norm() + 1e-4) * adversarial}


@kind(
    of(
        "generator_loss",
        "generator",
        critic=excused("the loss trains the critic only because it lost the generator"),
        generator=starved("the fake was detached on the generator's own step"),
    )
)
def generator_step_with_a_detached_fake() -> Stages:
    generator, critic = net(2, 2), net(2, 1)
    yield {"generator": generator, "critic": critic}
    yield {"generator_loss": -critic(generator(data(2)).detach()).mean()}

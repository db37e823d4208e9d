"""Kinds of graph: autoencoders, codebooks, towers, mixtures, diffusion, hyper-networks."""

# ruff: noqa: D103  A kind is described by its name and its claims.

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
from torch.func import functional_call
from torch.nn import functional


@kind(
    of(
        "elbo",
        ["encoder", "decoder"],
        encoder=meant("one of the two it trains"),
        decoder=meant("one of the two it trains"),
    ),
    of(
        "kl_loss",
        "encoder",
        encoder=meant("it is what the divergence trains"),
        decoder=none("the divergence is taken before the decoder"),
    ),
    of(
        "decoder_loss",
        "decoder",
        encoder=leak("the sample is live and only data lies behind the encoder"),
        decoder=meant("it is what the loss trains"),
    ),
    of(
        "encoder_loss",
        "encoder",
        encoder=meant("it is what the loss trains"),
        decoder=spill("the encoder lies below it"),
    ),
)
def variational_autoencoder() -> Stages:
    encoder, decoder = net(2, 4), net(2, 2)
    yield {"encoder": encoder, "decoder": decoder}
    x = data(2)
    mean, log_variance = encoder(x).chunk(2, dim=1)
    sample = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
    reconstruction = functional.mse_loss(decoder(sample), x)
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
    yield {
        "elbo": reconstruction + kl,
        "kl_loss": kl,
        "decoder_loss": reconstruction * 2,
        "encoder_loss": reconstruction * 3,
    }


def _nearest(codebook: nn.Embedding, z: Tensor) -> Tensor:
    return torch.cdist(z.detach(), codebook.weight.detach()).argmin(1)


@kind(
    of(
        "reconstruction_loss",
        ["encoder", "decoder"],
        encoder=meant("the straight-through tensor carries the encoder"),
        decoder=meant("one of the two it trains"),
        codebook=none("the straight-through tensor detaches the code"),
    ),
    of(
        "codebook_loss",
        "codebook",
        encoder=none("the encoder's output was detached"),
        decoder=none("it takes no part"),
        codebook=meant("it is what the loss trains"),
    ),
    of(
        "commitment_loss",
        "encoder",
        encoder=meant("it is what the loss trains"),
        decoder=none("it takes no part"),
        codebook=none("the code was detached"),
    ),
)
def straight_through_codebook() -> Stages:
    encoder, decoder, codebook = net(2, 4), net(4, 2), nn.Embedding(5, 4)
    yield {"encoder": encoder, "decoder": decoder, "codebook": codebook}
    x = data(2)
    z = encoder(x)
    code = codebook(_nearest(codebook, z))
    through = z + (code - z).detach()
    yield {
        "reconstruction_loss": functional.mse_loss(decoder(through), x),
        "codebook_loss": functional.mse_loss(code, z.detach()),
        "commitment_loss": functional.mse_loss(z, code.detach()),
    }


@kind(
    of(
        "codebook_loss",
        "codebook",
        encoder=leak("below the encoder lies only data: detaching it costs the codebook nothing"),
        codebook=meant("it is what the loss trains"),
    ),
    of(
        "commitment_loss",
        "encoder",
        encoder=meant("it is what the loss trains"),
        codebook=leak("the code is looked up by number, so nothing lies below its call"),
    ),
)
def codebook_and_encoder_without_detach() -> Stages:
    encoder, codebook = net(2, 4), nn.Embedding(5, 4)
    yield {"encoder": encoder, "codebook": codebook}
    z = encoder(data(2))
    distance = functional.mse_loss(codebook(_nearest(codebook, z)), z)
    yield {"codebook_loss": distance, "commitment_loss": distance * 0.25}


@kind(
    of(
        "codebook_loss",
        "codebook",
        encoder=excused("the loss went to the encoder because it lost the codebook"),
        codebook=starved("the straight-through tensor carries the encoder instead"),
    )
)
def codebook_loss_on_the_straight_through_tensor() -> Stages:
    encoder, codebook = net(2, 4), nn.Embedding(5, 4)
    yield {"encoder": encoder, "codebook": codebook}
    z = encoder(data(2))
    code = codebook(_nearest(codebook, z))
    yield {"codebook_loss": functional.mse_loss(z + (code - z).detach(), z.detach() + 1)}


class _CrossAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 1, batch_first=True)

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        attended: Tensor = self.attention(queries, memory, memory)[0]
        return attended + queries


@kind(
    of(
        "decoder_loss",
        "decoder",
        encoder=leak("the memory is live and only data lies behind the encoder"),
        decoder=meant("it is what the loss trains"),
    ),
    of(
        "encoder_loss",
        "encoder",
        encoder=meant("it is what the loss trains"),
        decoder=spill("keys and values carry the encoder"),
    ),
)
def cross_attention() -> Stages:
    encoder, decoder = net(4, 4), _CrossAttention()
    yield {"encoder": encoder, "decoder": decoder}
    loss = decoder(torch.randn(2, 3, 4), encoder(torch.randn(2, 5, 4))).square().mean()
    yield {"decoder_loss": loss, "encoder_loss": loss * 2}


@kind(
    of(
        "denoiser_loss",
        "denoiser",
        denoiser=meant("it is what the loss trains, at every step of the loop"),
        text=leak("the condition is live and only data lies behind it"),
        guide=spill("it judges the last sample, which carries the denoiser"),
    ),
    of(
        "text_loss",
        "text",
        denoiser=spill("every call takes the condition"),
        text=meant("it is what the loss trains"),
        guide=spill("the sample carries the condition too"),
    ),
)
def diffusion_loop() -> Stages:
    denoiser, text, guide = net(5, 2), net(2, 2), net(2, 1)
    yield {"denoiser": denoiser, "text": text, "guide": guide}
    condition, sample = text(data(2)), data(2)
    for step in range(4):
        time = torch.full((3, 1), step / 4)
        noise = denoiser(torch.cat([sample, condition, time], dim=1))
        sample = sample - 0.25 * noise
    loss = guide(sample).mean()
    yield {"denoiser_loss": loss, "text_loss": loss * 2}


class _Produced(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(2))

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.linear(x, weight, self.bias)


@kind(
    of(
        "main_loss",
        "main",
        hyper=leak("only the condition lies behind it"),
        main=meant("its bias is its own"),
    ),
    of(
        "hyper_loss",
        "hyper",
        hyper=meant("it is what the loss trains"),
        main=spill("the weights it is called with carry the hyper-network"),
    ),
)
def weights_made_by_another_network() -> Stages:
    hyper, main = net(3, 4), _Produced()
    yield {"hyper": hyper, "main": main}
    weight = hyper(data(3, rows=1)).view(2, 2)
    loss = main(data(2), weight).square().mean()
    yield {"main_loss": loss, "hyper_loss": loss * 2}


@kind(
    of(
        "hyper_loss",
        "hyper",
        hyper=meant("it is what the loss trains"),
        main=none("all of its parameters were replaced for the call"),
    )
)
def call_with_every_weight_replaced() -> Stages:
    hyper, main = net(3, 6), nn.Linear(2, 2)
    yield {"hyper": hyper, "main": main}
    weight, bias = hyper(data(3, rows=1))[0].split([4, 2])
    produced = {"weight": weight.view(2, 2), "bias": bias}
    yield {"hyper_loss": functional_call(main, produced, (data(2),)).square().mean()}


@kind(
    of(
        "image_loss",
        "image",
        image=meant("it is what the loss trains"),
        label=leak("a model of its own, beside the image tower, with only data behind it"),
    ),
    of(
        "contrastive_loss",
        ["image", "label"],
        image=meant("one of the two it trains"),
        label=meant("one of the two it trains"),
    ),
)
def two_towers_that_are_two_models() -> Stages:
    image, label = net(2, 4), nn.Embedding(3, 4)
    yield {"image": image, "label": label}
    logits = image(data(2)) @ label(torch.tensor([0, 1, 2])).mT
    loss = functional.cross_entropy(logits, torch.arange(3))
    yield {"image_loss": loss, "contrastive_loss": loss * 2}


@kind(
    of(
        "gate_loss",
        "gate",
        gate=meant("it is what the loss trains"),
        experts=leak("the gate multiplies the experts' output but does not lie behind it"),
    ),
    of(
        "expert_loss",
        "experts",
        gate=leak("only data lies behind it"),
        experts=meant("it is what the loss trains"),
    ),
)
def mixture_of_experts() -> Stages:
    gate, experts = net(2, 3), nn.ModuleList([net(2, 2) for _ in range(3)])
    yield {"gate": gate, "experts": experts}
    x = data(2)
    outputs = torch.stack([expert(x) for expert in experts], dim=1)
    loss = (torch.softmax(gate(x), dim=1).unsqueeze(2) * outputs).sum(1).square().mean()
    yield {"gate_loss": loss, "expert_loss": loss * 2}


@kind(
    of(
        "generator_loss",
        "generator",
        generator=meant("it is what the loss trains"),
        refiner=spill("the generator lies below its call"),
    ),
    of(
        "refiner_loss",
        "refiner",
        generator=leak("both ways around the refiner lead to it, and only noise lies behind"),
        refiner=meant("it is what the loss trains"),
    ),
)
def residual_around_a_model() -> Stages:
    generator, refiner = net(2, 2), net(2, 2)
    yield {"generator": generator, "refiner": refiner}
    draft = generator(data(2))
    refined = draft + refiner(draft)
    yield {"generator_loss": refined.square().mean(), "refiner_loss": refined.sin().mean()}


@kind(
    of(
        "generator_loss",
        "generator",
        generator=meant("the way around the refiner carries it"),
        refiner=leak("its input was detached, so the residual does not pass through it"),
    ),
    of(
        "refiner_loss",
        "refiner",
        generator=leak("the way around the refiner was not detached"),
        refiner=meant("it is what the loss trains"),
    ),
)
def residual_around_a_model_that_sees_a_detached_input() -> Stages:
    generator, refiner = net(2, 2), net(2, 2)
    yield {"generator": generator, "refiner": refiner}
    draft = generator(data(2))
    refined = draft + refiner(draft.detach())
    yield {"generator_loss": refined.square().mean(), "refiner_loss": refined.sin().mean()}


@kind(
    of(
        "decoder_loss",
        "decoder",
        encoder=leak("only data lies behind it"),
        decoder=meant("it is what the loss trains"),
    ),
    of(
        "encoder_loss",
        "encoder",
        encoder=meant("it is what the loss trains"),
        decoder=spill("the encoder lies below its call"),
    ),
)
def models_chained_in_a_sequential() -> Stages:
    encoder, decoder = net(2, 2), net(2, 2)
    chain = nn.Sequential(encoder, nn.Tanh(), decoder)
    yield {"encoder": encoder, "decoder": decoder}
    loss = chain(data(2)).square().mean()
    yield {"decoder_loss": loss, "encoder_loss": loss * 2}


class _Perceptual(nn.Module):
    """A model that calls another without registering it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.own, self.borrowed = net(2, 2), (inner,)

    def forward(self, x: Tensor) -> Tensor:
        summed: Tensor = self.own(x) + self.borrowed[0](x)
        return summed


@kind(
    of(
        "outer_loss",
        "outer",
        inner=leak("called inside the outer model's call, but only data lies below its own"),
        outer=meant("it is what the loss trains"),
    ),
    of(
        "inner_loss",
        "inner",
        inner=meant("it is what the loss trains"),
        outer=spill("the inner model's call is part of the outer's, so its leaves lie below"),
    ),
)
def model_called_inside_another_models_call() -> Stages:
    inner = net(2, 2)
    outer = _Perceptual(inner)
    yield {"inner": inner, "outer": outer}
    loss = outer(data(2)).square().mean()
    yield {"outer_loss": loss, "inner_loss": loss * 2}

"""Kinds of graph: parameters with several owners, models inside models, adapters, containers."""

# ruff: noqa: D103  A kind is described by its name and its claims.

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
)
from torch import Tensor, nn
from torch.nn import functional


@kind(
    of(
        "decoder_loss",
        "decoder",
        embed=meant("the one parameter that is reached belongs to the decoder as well"),
        decoder=meant("it is what the loss trains"),
    ),
    of(
        "embed_loss",
        "embed",
        embed=meant("it is what the loss trains"),
        decoder=spill("its bias is judged, and meets what the embedding made"),
    ),
    detachable=False,
)
def tied_weights_with_an_allowed_owner() -> Stages:
    embed, decoder = nn.Embedding(5, 4), nn.Linear(4, 5)
    decoder.weight = embed.weight
    yield {"embed": embed, "decoder": decoder}
    tokens = torch.tensor([0, 1, 2])
    yield {
        "decoder_loss": decoder(data(4)).square().mean(),
        "embed_loss": functional.cross_entropy(decoder(embed(tokens)), tokens),
    }


@kind(
    of(
        "head_loss",
        "head",
        first=leak("neither its own layer nor the tied one belongs to a model that may be trained"),
        second=leak(
            "neither its own layer nor the tied one belongs to a model that may be trained"
        ),
        head=meant("it is what the loss trains"),
    )
)
def tied_weights_with_forbidden_owners_only() -> Stages:
    tied = nn.Linear(2, 4)
    first = nn.Sequential(tied, nn.Tanh(), nn.Linear(4, 4))
    second = nn.Sequential(tied, nn.ReLU(), nn.Linear(4, 4))
    head = nn.Linear(4, 1)
    yield {"first": first, "second": second, "head": head}
    yield {"head_loss": head(first(data(2)) + second(data(2))).mean()}


@kind(
    of(
        "decoder_loss",
        {"only": ["decoder"], "never": ["embed"]},
        embed=leak("an explicit never wins over the decoder's own claim to the tied weight"),
        decoder=meant("it is what the loss trains, but for the tied weight"),
    ),
    detachable=False,
)
def tied_weights_that_never_may_train() -> Stages:
    embed, decoder = nn.Embedding(5, 4), nn.Linear(4, 5)
    decoder.weight = embed.weight
    yield {"embed": embed, "decoder": decoder}
    numbers = embed(torch.tensor([0, 1, 2]))
    yield {"decoder_loss": decoder(data(4)).square().mean() + numbers.mean()}


class _Adapted(nn.Module):
    """A linear layer with a low-rank adapter beside it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.lora_a = nn.Linear(inputs, 2, bias=False)
        self.lora_b = nn.Linear(2, outputs, bias=False)
        self.enabled = True

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.linear(x)
        if self.enabled:
            result = result + self.lora_b(self.lora_a(x))
        return result


class _AdaptedByParameters(nn.Module):
    """The same, with the adapter as two bare parameters of the layer."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.lora_a = nn.Parameter(torch.randn(2, inputs))
        self.lora_b = nn.Parameter(torch.randn(outputs, 2))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.linear(x)
        return result + x @ self.lora_a.mT @ self.lora_b.mT


@kind(
    of(
        "adapter_loss",
        "adapter",
        base=spill("the second linear layer is called on what the first adapter made"),
        adapter=meant("it is what the loss trains"),
    )
)
def adapters_inside_a_trainable_base() -> Stages:
    base = nn.Sequential(_Adapted(2, 4), nn.Tanh(), _Adapted(4, 1))
    yield {"base": base, "adapter": "base.*lora_*"}
    yield {"adapter_loss": base(data(2)).square().mean()}


@kind(
    of(
        "adapter_loss",
        "adapter",
        base=spill("the head is called on what the adapter made"),
        adapter=meant("it is what the loss trains"),
    )
)
def adapter_parameters_inside_a_trainable_base() -> Stages:
    base = nn.Sequential(_AdaptedByParameters(2, 4), nn.Tanh(), nn.Linear(4, 1))
    yield {"base": base, "adapter": "base.*lora_*"}
    yield {"adapter_loss": base(data(2)).square().mean()}


@kind(
    of(
        "adapter_loss",
        "adapter",
        base=leak("its one linear layer is called beside the adapter, on data"),
        adapter=meant("it is what the loss trains"),
    )
)
def adapter_beside_one_trainable_layer() -> Stages:
    base = _Adapted(2, 1)
    yield {"base": base, "adapter": "base.lora_*"}
    yield {"adapter_loss": base(data(2)).square().mean()}


@kind(
    of(
        "adapter_loss",
        "adapter",
        base=meant("what is reached of it is the adapter; the rest is frozen"),
        adapter=meant("it is what the loss trains"),
    )
)
def adapters_inside_a_frozen_base() -> Stages:
    base = nn.Sequential(_Adapted(2, 4), nn.Tanh(), _Adapted(4, 1))
    for name, parameter in base.named_parameters():
        parameter.requires_grad_("lora_" in name)
    yield {"base": base, "adapter": "base.*lora_*"}
    yield {"adapter_loss": base(data(2)).square().mean()}


@kind(
    of(
        "preference_loss",
        "adapter",
        base=meant("what is reached of it is the adapter; the rest is frozen"),
        adapter=meant("the reference runs without it and without gradient"),
    )
)
def base_as_its_own_reference() -> Stages:
    base = _Adapted(2, 3)
    base.linear.requires_grad_(False)
    yield {"base": base, "adapter": "base.lora_*"}
    x = data(2)
    chosen = torch.log_softmax(base(x), dim=1)[:, 0]
    base.enabled = False
    with torch.no_grad():
        reference = torch.log_softmax(base(x), dim=1)[:, 0]
    yield {"preference_loss": -functional.logsigmoid(chosen - reference).mean()}


@kind(
    of(
        "pretraining_loss",
        {"only": ["base"], "never": ["adapter"]},
        base=meant("it is what the loss trains, but for the adapter"),
        adapter=spill("the second adapter is called on what the first linear layer made"),
    )
)
def adapters_that_never_may_train() -> Stages:
    base = nn.Sequential(_Adapted(2, 4), nn.Tanh(), _Adapted(4, 1))
    yield {"base": base, "adapter": "base.*lora_*"}
    yield {"pretraining_loss": base(data(2)).square().mean()}


class _Agent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.squash = net(2, 2), nn.Tanh()
        self.actor, self.critic = nn.Linear(2, 2), net(4, 1)

    def forward(self, state: Tensor) -> Tensor:
        features = self.encoder(state)
        score: Tensor = self.critic(torch.cat([features, self.squash(self.actor(features))], 1))
        return score


@kind(
    of(
        "actor_loss",
        "actor",
        agent=spill("of what remains of it, the critic is called on the actor's action"),
        actor=meant("it is what the loss trains"),
    ),
    of(
        "agent_loss",
        "agent",
        agent=meant("it is what the loss trains"),
        actor=meant("the agent, which holds it, may be trained"),
    ),
)
def actor_inside_an_agent() -> Stages:
    agent = _Agent()
    yield {"agent": agent, "actor": agent.actor}
    loss = agent(data(2)).mean()
    yield {"actor_loss": -loss, "agent_loss": loss * 2}


@kind(
    of(
        "actor_loss",
        "actor",
        agent=leak("the encoder remains of it, and its features were not detached"),
        actor=meant("it is what the loss trains"),
    )
)
def encoder_remaining_of_an_agent() -> Stages:
    agent = _Agent()
    yield {"agent": agent, "actor": agent.actor}
    yield {"actor_loss": agent.actor(agent.encoder(data(2))).square().mean()}


@kind(
    of(
        "actor_loss",
        "actor",
        agent=leak("the activation behind the actor is the agent's but holds none of what remains"),
        actor=meant("it is what the loss trains"),
    )
)
def activation_of_a_container_behind_the_allowed_model() -> Stages:
    agent = _Agent()
    yield {"agent": agent, "actor": agent.actor}
    yield {"actor_loss": agent.squash(agent.actor(agent.encoder(data(2)))).square().mean()}


@kind(
    of(
        "actor_loss",
        {"only": ["agent"], "never": ["critic"]},
        agent=meant("all of it but the critic"),
        critic=spill("the explicit never wins, and encoder and actor lie below the critic"),
    )
)
def critic_of_an_agent_that_never_may_train() -> Stages:
    agent = _Agent()
    yield {"agent": agent, "critic": agent.critic}
    yield {"actor_loss": -agent(data(2)).mean()}


class _System(nn.Module):
    """A container in the manner of a LightningModule: it owns everything and computes losses."""

    def __init__(self) -> None:
        super().__init__()
        self.generator, self.critic, self.prior = net(2, 2), net(2, 1), net(2, 2)

    def forward(self, z: Tensor) -> Tensor:
        fake: Tensor = self.generator(z)
        return fake

    def judged(self, z: Tensor) -> Tensor:
        score: Tensor = self.critic(self(z))
        return score.mean()


@kind(
    of(
        "generator_loss",
        "generator",
        system=spill("the critic remains of it, and is called on the fake"),
        generator=meant("it is what the loss trains"),
    )
)
def container_with_a_critic_remaining() -> Stages:
    system = _System()
    yield {"system": system, "generator": system.generator}
    yield {"generator_loss": -system.judged(data(2))}


@kind(
    of(
        "generator_loss",
        "generator",
        system=leak("the prior remains of it, called on data; the container's own call is no call"),
        generator=meant("it is what the loss trains"),
    )
)
def container_with_a_prior_remaining() -> Stages:
    system = _System()
    yield {"system": system, "generator": system.generator}
    yield {"generator_loss": functional.mse_loss(system(data(2)), system.prior(data(2)))}


@kind(
    of(
        "head_loss",
        "head",
        agent=leak("its encoder's trunk remains, two levels down, with only data behind it"),
        head=meant("it is what the loss trains"),
    )
)
def container_inside_a_container() -> Stages:
    encoder = nn.ModuleDict({"trunk": net(2, 4), "head": nn.Linear(4, 2)})
    agent = nn.ModuleDict({"encoder": encoder, "critic": net(2, 1)})
    yield {"agent": agent, "head": encoder["head"]}
    yield {"head_loss": encoder["head"](encoder["trunk"](data(2))).square().mean()}


@kind(
    of(
        "generator_loss",
        "generator",
        generator=meant("it is what the loss trains"),
        critic=spill("each of the modules of the list is a part; the head has the fake below"),
    ),
    of(
        "critic_loss",
        "critic",
        generator=none("the fake was detached"),
        critic=meant("it is what the loss trains"),
    ),
)
def model_declared_as_several_modules() -> Stages:
    generator, body, head = net(2, 2), net(2, 4), nn.Linear(4, 1)
    yield {"generator": generator, "critic": [body, head]}
    fake = generator(data(2))
    yield {
        "generator_loss": -head(body(fake)).mean(),
        "critic_loss": head(body(fake.detach())).mean(),
    }


@kind(
    of(
        "actor_loss",
        "actor",
        actor=meant("it is what the loss trains"),
        temperatures=leak("several bare parameters, and nothing lies behind any of them"),
    )
)
def model_declared_as_several_parameters() -> Stages:
    actor = net(2, 2)
    temperatures = [nn.Parameter(torch.tensor(0.1)), nn.Parameter(torch.tensor(0.2))]
    yield {"actor": actor, "temperatures": temperatures}
    first, second = torch.log_softmax(actor(data(2)), dim=1).unbind(1)
    scaled = temperatures[0].exp() * first + temperatures[1].exp() * second
    yield {"actor_loss": scaled.mean()}


@kind(
    of(
        "head_loss",
        "head",
        layers=leak("the list is never called; its first weight meets only data"),
        head=meant("it is what the loss trains"),
    ),
    of(
        "layers_loss",
        "layers",
        layers=meant("it is what the loss trains"),
        head=spill("the list's output lies below its call"),
    ),
)
def model_that_is_a_parameter_list() -> Stages:
    layers, head = nn.ParameterList([torch.randn(4, 2), torch.randn(4, 4)]), nn.Linear(4, 1)
    yield {"layers": layers, "head": head}
    hidden = functional.linear(torch.tanh(functional.linear(data(2), layers[0])), layers[1])
    loss = head(hidden).square().mean()
    yield {"head_loss": loss, "layers_loss": loss * 2}


@kind(
    of(
        "generator_loss",
        "generator",
        layers=spill("the list is never called; its first weight meets the generator's output"),
        generator=meant("it is what the loss trains"),
    ),
    detachable=False,
)
def parameter_list_behind_a_generator() -> Stages:
    generator, layers = net(2, 2), nn.ParameterList([torch.randn(4, 2), torch.randn(1, 4)])
    yield {"generator": generator, "layers": layers}
    hidden = torch.tanh(functional.linear(generator(data(2)), layers[0]))
    yield {"generator_loss": -functional.linear(hidden, layers[1]).mean()}

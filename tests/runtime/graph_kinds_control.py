"""Kinds of graph: actors, critics, targets, baselines, world models and loops through time."""

# ruff: noqa: D103  A kind is described by its name and its claims.

import copy

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
    shadow,
    spill,
)
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional


def _score(critic: nn.Module, state: Tensor, action: Tensor) -> Tensor:
    score: Tensor = critic(torch.cat([state, action], dim=1))
    return score.mean()


@kind(
    of(
        "actor_loss",
        "actor",
        actor=meant("it is what the loss trains"),
        critic=spill("the action below it carries the actor"),
        log_alpha=leak("a bare parameter is its own output: nothing lies behind it"),
    ),
    of(
        "alpha_loss",
        "log_alpha",
        actor=leak("the log-probability was not detached"),
        critic=none("it takes no part"),
        log_alpha=meant("it is what the loss trains"),
    ),
    of(
        "critic_loss",
        "critic",
        actor=none("the action was detached"),
        critic=meant("it is what the loss trains"),
        log_alpha=none("it takes no part"),
    ),
)
def temperature_as_a_bare_parameter() -> Stages:
    actor, critic = net(2, 2), net(4, 1)
    log_alpha = nn.Parameter(torch.tensor(0.1))
    yield {"actor": actor, "critic": critic, "log_alpha": log_alpha}
    state = data(2)
    action = actor(state)
    log_probability = -action.square().mean()
    yield {
        "actor_loss": log_alpha.exp() * log_probability - _score(critic, state, action),
        "alpha_loss": -(log_alpha * (log_probability + 1)),
        "critic_loss": _score(critic, state, action.detach()),
    }


@kind(
    of(
        "policy_loss",
        "policy",
        policy=meant("it is what the loss trains"),
        baseline=leak("a bare parameter: subtracting it detached costs the policy nothing"),
    )
)
def learned_baseline() -> Stages:
    policy, baseline = net(2, 3), nn.Parameter(torch.tensor(0.5))
    yield {"policy": policy, "baseline": baseline}
    log_probability = torch.log_softmax(policy(data(2)), dim=1)[:, 0]
    yield {"policy_loss": -(log_probability * (torch.randn(3) - baseline)).mean()}


@kind(
    of(
        "encoder_loss",
        "encoder",
        encoder=meant("it is what the loss trains"),
        prototypes=leak("a bare parameter, also where it is multiplied like a layer's weight"),
    )
)
def prototypes_as_a_bare_parameter() -> Stages:
    encoder, prototypes = net(2, 4), nn.Parameter(torch.randn(4, 3))
    yield {"encoder": encoder, "prototypes": prototypes}
    logits = encoder(data(2)) @ prototypes
    yield {"encoder_loss": functional.cross_entropy(logits, torch.tensor([0, 1, 2]))}


@kind(
    of(
        "policy_loss",
        "policy",
        policy=meant("it is what the loss trains"),
        value=leak("the advantage is live and only the state lies behind the value"),
    ),
    of(
        "value_loss",
        "value",
        policy=none("it takes no part"),
        value=meant("it is what the loss trains"),
    ),
)
def live_value_in_the_advantage() -> Stages:
    policy, value = net(2, 3), net(2, 1)
    yield {"policy": policy, "value": value}
    state, outcome = data(2), data(1)
    log_probability = torch.log_softmax(policy(state), dim=1)[:, :1]
    estimate = value(state)
    yield {
        "policy_loss": -(log_probability * (outcome - estimate)).mean(),
        "value_loss": functional.mse_loss(estimate, outcome),
    }


@kind(
    of(
        "policy_loss",
        ["trunk", "policy"],
        trunk=meant("the loss may train the trunk"),
        policy=meant("it is what the loss trains"),
        value=spill("the known limit: the trunk lies below the live value head"),
    )
)
def live_value_head_over_a_shared_trunk() -> Stages:
    trunk, policy, value = net(2, 4), nn.Linear(4, 3), nn.Linear(4, 1)
    yield {"trunk": trunk, "policy": policy, "value": value}
    features = trunk(data(2))
    log_probability = torch.log_softmax(policy(features), dim=1)[:, :1]
    yield {"policy_loss": -(log_probability * (data(1) - value(features))).mean()}


@kind(
    of(
        "actor_loss",
        "actor",
        actor=meant("it is what the loss trains"),
        target=spill("the action below it carries the actor, target network or not"),
    )
)
def actor_through_a_target_critic() -> Stages:
    actor, critic = net(2, 2), net(4, 1)
    target = copy.deepcopy(critic)
    yield {"actor": actor, "target": target}
    state = data(2)
    yield {"actor_loss": -_score(target, state, actor(state))}


@kind(
    of(
        "actor_loss",
        {"never": ["critic"]},
        actor=meant("the rule leaves it free"),
        critic=spill("never forbids training, not passing through"),
        encoder=meant("the rule leaves it free"),
    ),
    of(
        "critic_loss",
        {"only": ["critic"], "may": ["encoder"]},
        actor=leak("behind it lies the encoder, but its features were detached for the actor"),
        critic=meant("it is what the loss trains"),
        encoder=meant("allowed, not required"),
    ),
    of(
        "reward_loss",
        {"must": ["encoder"]},
        actor=none("it takes no part"),
        critic=none("it takes no part"),
        encoder=meant("it has to be reached, and is"),
    ),
)
def partial_rules() -> Stages:
    encoder, actor, critic = net(2, 2), net(2, 2), net(4, 1)
    yield {"encoder": encoder, "actor": actor, "critic": critic}
    features = encoder(data(2))
    yield {
        "actor_loss": -_score(critic, features.detach(), actor(features)),
        "critic_loss": _score(critic, features, actor(features.detach())),
        "reward_loss": features.mean(),
    }


@kind(
    of(
        "critic_loss",
        {"only": ["critic"], "may": ["encoder"]},
        actor=spill("the encoder, which the loss may train, lies below the actor's call"),
        critic=meant("it is what the loss trains"),
        encoder=meant("allowed, not required"),
    )
)
def optional_model_behind_a_forbidden_one() -> Stages:
    encoder, actor, critic = net(2, 2), net(2, 2), net(4, 1)
    yield {"encoder": encoder, "actor": actor, "critic": critic}
    features = encoder(data(2))
    yield {"critic_loss": _score(critic, features, actor(features))}


@kind(
    of(
        "policy_loss",
        "policy",
        policy=meant("it is what the loss trains, at every step of the loop"),
        dynamics=spill("from the first step on, the action below it carries the policy"),
        reward=spill("the imagined state carries the policy"),
    ),
    of(
        "dynamics_loss",
        "dynamics",
        policy=spill("from the second step on, the state below it carries the dynamics"),
        dynamics=meant("it is what the loss trains, at every step of the loop"),
        reward=spill("the imagined state carries the dynamics"),
    ),
)
def imagined_rollout() -> Stages:
    policy, dynamics, reward = net(2, 2), nn.GRUCell(2, 2), net(2, 1)
    yield {"policy": policy, "dynamics": dynamics, "reward": reward}
    state, total = data(2), torch.zeros(())
    for _ in range(3):
        state = dynamics(policy(state), state)
        total = total + reward(state).mean()
    yield {"policy_loss": -total, "dynamics_loss": total * 2}


@kind(
    of(
        "dynamics_loss",
        "dynamics",
        policy=leak("every state was detached before the policy saw it"),
        dynamics=meant("it is what the loss trains"),
    )
)
def rollout_truncated_at_every_step() -> Stages:
    policy, dynamics = net(2, 2), nn.GRUCell(2, 2)
    yield {"policy": policy, "dynamics": dynamics}
    state, total = data(2), torch.zeros(())
    for _ in range(3):
        state = dynamics(policy(state.detach()), state)
        total = total + state.square().mean()
    yield {"dynamics_loss": total}


@kind(
    of(
        "head_loss",
        "head",
        embed=leak("only token numbers lie below it"),
        recurrent=leak("below it lies the embedding, which the loss may not train either"),
        head=meant("it is what the loss trains"),
    ),
    of(
        "embed_loss",
        "embed",
        embed=meant("it is what the loss trains"),
        recurrent=spill("the fused layer's call has the embedding below"),
        head=spill("the recurrent state carries the embedding"),
    ),
)
def backpropagation_through_time() -> Stages:
    embed, recurrent, head = nn.Embedding(5, 3), nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 5)
    yield {"embed": embed, "recurrent": recurrent, "head": head}
    tokens = torch.tensor([[0, 1, 2, 3], [4, 3, 2, 1]])
    states, _ = recurrent(embed(tokens))
    loss = functional.cross_entropy(head(states).flatten(0, 1), tokens.flatten())
    yield {"head_loss": loss, "embed_loss": loss * 2}


@kind(
    of(
        "value_loss",
        "online",
        online=meant("it is what the loss trains"),
        target=shadow("a copy that no optimizer holds, with only the next state behind it"),
    )
)
def live_target_network() -> Stages:
    online = net(2, 3)
    target = copy.deepcopy(online)
    optimizer = torch.optim.SGD(online.parameters(), lr=0.1)
    yield {"online": online, "target": target}
    optimizer.zero_grad()
    bootstrap = data(1) + 0.9 * target(data(2)).amax(1, keepdim=True)
    yield {"value_loss": functional.mse_loss(online(data(2))[:, :1], bootstrap)}


@kind(
    of(
        "student_loss",
        ["student", "predictor"],
        student=meant("one of the two it trains"),
        predictor=meant("one of the two it trains"),
        teacher=shadow("an average of the student, with only the other view behind it"),
    )
)
def live_averaged_teacher() -> Stages:
    student, predictor = net(2, 4), net(4, 4)
    teacher = copy.deepcopy(student)
    optimizer = torch.optim.SGD([*student.parameters(), *predictor.parameters()], lr=0.1)
    yield {"student": student, "predictor": predictor, "teacher": teacher}
    optimizer.zero_grad()
    with torch.no_grad():
        for average, current in zip(teacher.parameters(), student.parameters(), strict=True):
            average.lerp_(current, 0.01)
    guess, answer = predictor(student(data(2))), teacher(data(2))
    yield {"student_loss": -functional.cosine_similarity(guess, answer).mean()}


@kind(
    of(
        "value_loss",
        "online",
        online=meant("it is what the loss trains"),
        bootstrap=meant("an allowed model holds every one of its parameters"),
    )
)
def target_that_is_the_online_network() -> Stages:
    online = net(2, 1)
    yield {"online": online, "bootstrap": online}
    yield {"value_loss": functional.mse_loss(online(data(2)), data(1) + 0.9 * online(data(2)))}


@kind(
    of(
        "meta_loss",
        "learner",
        learner=meant("first and second order both train it"),
        embedder=leak("only data lies behind it, in the inner step as in the outer"),
    ),
    of(
        "embedder_loss",
        "embedder",
        learner=spill("the embedder lies below its calls"),
        embedder=meant("it is what the loss trains"),
    ),
)
def second_order_meta_learning() -> Stages:
    learner, embedder = net(3, 1), net(2, 3)
    yield {"learner": learner, "embedder": embedder}
    parameters: dict[str, Tensor] = dict(learner.named_parameters())
    inner = functional.mse_loss(functional_call(learner, parameters, (embedder(data(2)),)), data(1))
    slopes = torch.autograd.grad(inner, list(parameters.values()), create_graph=True)
    fast = {name: p - 0.1 * g for (name, p), g in zip(parameters.items(), slopes, strict=True)}
    outer = functional.mse_loss(functional_call(learner, fast, (embedder(data(2)),)), data(1))
    yield {"meta_loss": outer, "embedder_loss": outer * 2}

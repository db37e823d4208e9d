"""Training spread over a project: what one file leaves abstract, another makes concrete."""

from __future__ import annotations

import time
from pathlib import Path
from textwrap import dedent

import pytest

from gradguard.config import Config
from gradguard.core.findings import Confidence, Severity
from gradguard.lint.engine import analyse
from gradguard.lint.project import Project

BASE = """
    from torch import nn


    class Base(nn.Module):
        def forward(self, batch):
            raise NotImplementedError
"""

CONCRETE = """
    import torch.nn.functional as F
    from torch import nn
    from collections import OrderedDict

    from .base import Base


    class Output(OrderedDict):
        pass


    class Unrelated(Base):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(4, 4)

        def forward(self, batch):
            return self.body(batch)


    class Adversarial(Base):
        def __init__(self):
            super().__init__()
            self.generator = nn.Linear(4, 4)
            self.critic = nn.Linear(4, 1)

        def forward(self, batch):
            fake = self.generator(batch)
            generator_loss = -self.critic(fake).mean()
            critic_loss = F.softplus(self.critic(fake{detached})).mean()
            return Output(generator_loss=generator_loss, critic_loss=critic_loss)
"""

TRAINER = """
    import torch

    from .base import Base


    class Trainer:
        def __init__(self, model: Base):
            self.model = model
            self.generator_optimizer = torch.optim.Adam(self.model.generator.parameters())
            self.critic_optimizer = torch.optim.Adam(self.model.critic.parameters())

        def step(self, batch):
            output = self.model(batch)
            self.generator_optimizer.zero_grad()
            output.generator_loss.backward(retain_graph=True)
            self.generator_optimizer.step()
            {clear}
            output["critic_loss"].backward()
            self.critic_optimizer.step()
"""

CLEAR = "self.critic_optimizer.zero_grad()"


def found(folder: Path, files: dict[str, str], linted: str) -> list[tuple[str, str, str]]:
    """Return code, model and file of what a user would see of one file of a package."""
    package = folder / "package"
    package.mkdir()
    for name, text in {"__init__.py": "", **files}.items():
        (package / name).write_text(dedent(text), "utf-8")
    project, config = Project([folder]), Config(root=folder)
    analysis = analyse(package / linted, project, config, time.thread_time() + 30)
    return [
        (finding.code, finding.model or "", Path(finding.filename).name)
        for finding in analysis.findings
        if finding.severity is not Severity.INFO and finding.confidence.reaches(Confidence.MEDIUM)
    ]


@pytest.mark.parametrize(
    ("detached", "clear", "codes"),
    [
        (".detach()", CLEAR, set()),
        (".detach()", "pass", {"GG204"}),
        ("", CLEAR, {"GG101"}),
    ],
)
def test_a_trainer_of_an_abstract_model_trains_the_class_that_fits_it(
    tmp_path: Path, detached: str, clear: str, codes: set[str]
) -> None:
    """The class with the parts that the trainer uses stands in, wherever it is in the package."""
    files = {
        "base.py": BASE,
        "concrete.py": CONCRETE.format(detached=detached),
        "trainer.py": TRAINER.format(clear=clear),
    }
    assert {code for code, _, _ in found(tmp_path, files, "trainer.py")} == codes


HOLDER = """
    import torch
    from elsewhere import Algorithm


    class Learner(Algorithm):
        def train(self, batch):
            self.actor, self.critic = self.policy.actor, self.policy.critic
            optimizers = [self.actor.optimizer, self.critic.optimizer]
            self.adapt(optimizers)
            {guard}
                action = self.actor.act(batch.after)
            loss = (self.critic(batch.before, action) - batch.reward).pow(2).mean()
            self.critic.optimizer.zero_grad()
            loss.backward()
            self.critic.optimizer.step()
            actor_loss = -self.critic(batch.before, self.actor.act(batch.before)).mean()
            self.actor.optimizer.zero_grad()
            actor_loss.backward()
            self.actor.optimizer.step()
"""


@pytest.mark.parametrize(
    ("guard", "expected"),
    [("with torch.no_grad():", []), ("if True:", [("GG101", "self.policy.actor", "learner.py")])],
)
def test_an_object_with_an_optimizer_of_its_own_is_a_model(
    tmp_path: Path, guard: str, expected: list[tuple[str, str, str]]
) -> None:
    """Where a base class is out of sight, what its attributes are used for tells what they are."""
    assert found(tmp_path, {"learner.py": HOLDER.format(guard=guard)}, "learner.py") == expected


REGISTERED = """
    import torch
    from somewhere import build_loss, build_network


    class Model:
        def __init__(self, options):
            self.net_g = build_network(options["g"]).to("cuda")
            self.net_d = build_network(options["d"]).to("cuda")
            self.cri_gan = build_loss(options["gan"])
            self.optimizer_g = torch.optim.Adam(self.net_g.parameters())
            self.optimizer_d = torch.optim.Adam(self.net_d.parameters())

        def optimize(self, data):
            self.optimizer_g.zero_grad()
            fake = self.net_g(data)
            l_g = self.cri_gan(self.net_d(fake), True)
            l_g.backward()
            self.optimizer_g.step()
            self.optimizer_d.zero_grad()
            l_d = {loss}
            l_d.backward()
            self.optimizer_d.step()
"""


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("self.cri_gan(self.net_d(fake.detach()), False)", []),
        ("self.cri_gan(self.net_d(fake), False)", [("GG101", "self.net_g", "model.py")]),
        # What a buffer gives back is not known to be what it was given.
        ("self.cri_gan(self.net_d(data.buffer_of(fake)), False)", []),
    ],
)
def test_an_unknown_loss_carries_gradient_and_an_unknown_store_need_not(
    tmp_path: Path, loss: str, expected: list[tuple[str, str, str]]
) -> None:
    """An unknown call is trusted by what it is called."""
    assert found(tmp_path, {"model.py": REGISTERED.format(loss=loss)}, "model.py") == expected


CONDITIONAL = """
    import torch
    import torch.nn.functional as F
    from torch import nn


    class Agent:
        def __init__(self, policy, policy_optimizer, goal=None):
            self.policy = policy
            self.policy_optimizer = policy_optimizer
            self.goal = goal
            if self.goal is not None:
                self.scale = nn.Parameter(torch.zeros(1))
                self.scale_optimizer = torch.optim.Adam([self.scale])

        def adapt(self, score):
            loss = -(self.scale * (score + self.goal)).mean()
            self.scale_optimizer.zero_grad()
            loss.backward()
            self.scale_optimizer.step()

        def update(self, batch):
            score = self.policy(batch)
            policy_loss = score.mean()
            self.policy_optimizer.zero_grad()
            policy_loss.backward()
            self.policy_optimizer.step()
            if self.goal is not None:
                self.adapt(score{detached})
"""


@pytest.mark.parametrize(("detached", "codes"), [(".detach()", set()), ("", {"GG101"})])
def test_a_condition_that_is_asked_in_several_places_opens_all_of_them(
    tmp_path: Path, detached: str, codes: set[str]
) -> None:
    """A backward pass behind a switch is got to by throwing the switch where it was first asked."""
    reported = found(tmp_path, {"agent.py": CONDITIONAL.format(detached=detached)}, "agent.py")
    assert {code for code, _, _ in reported} == codes


PASSED_IN = """
    import torch


    class GeneratorTurn:
        def run(self, generator, critic, optimizer_generator, noise):
            optimizer_generator.zero_grad()
            loss = -critic(generator(noise)).mean()
            loss.backward()
            optimizer_generator.step()


    class CriticTurn:
        def run(self, generator, critic, optimizer_critic, noise, real):
            optimizer_critic.zero_grad()
            loss = critic(generator(noise){detached}).mean() - critic(real).mean()
            loss.backward()
            optimizer_critic.step()
"""


@pytest.mark.parametrize(
    ("detached", "expected"),
    [(".detach()", []), ("", [("GG101", "generator", "turns.py")])],
)
def test_what_one_entry_trains_another_must_not_reach(
    tmp_path: Path, detached: str, expected: list[tuple[str, str, str]]
) -> None:
    """A model that comes with its optimizer in one place is a trained model in the other too."""
    text = PASSED_IN.format(detached=detached)
    assert found(tmp_path, {"turns.py": text}, "turns.py") == expected


FACTORIES = """
    import torch
    from somewhere import initialize, make_optimizer
    from torch import nn


    def main(batches, factory):
        generator, critic = nn.Linear(2, 2), nn.Linear(2, 1)
        generator_optimizer = make_optimizer(generator, 0.1)
        critic_optimizer, scheduler = factory.create(critic)
        critic, critic_optimizer = initialize(critic, critic_optimizer)
        critic.train()
        for real in batches:
            critic_optimizer.zero_grad()
            fake = generator(torch.randn(8, 2))
            (critic(fake{detached}) - critic(real)).mean().backward()
            critic_optimizer.step()
            generator_optimizer.zero_grad()
            (-critic(fake)).mean().backward()
            generator_optimizer.step()
"""


@pytest.mark.parametrize(
    ("detached", "expected"),
    [(".detach()", []), ("", [("GG101", "generator", "train.py")])],
)
def test_an_optimizer_that_something_unknown_makes_of_a_model_is_that_models(
    tmp_path: Path, detached: str, expected: list[tuple[str, str, str]]
) -> None:
    """What is cleared and stepped is an optimizer; it holds what its maker was given."""
    text = FACTORIES.format(detached=detached)
    assert found(tmp_path, {"train.py": text}, "train.py") == expected


TOGETHER = """
    import torch
    from torch import nn


    class Trainer:
        def __init__(self):
            self.encoder, self.{name} = nn.Linear(4, 2), nn.Linear(2, 1)
            self.encoder_optimizer = torch.optim.Adam(self.encoder.parameters())
            self.{name}_optimizer = torch.optim.Adam(self.{name}.parameters())

        def step(self, batch, prior):
            code = self.encoder(batch)
            encoder_loss = -self.{name}(code).mean()
            {name}_loss = self.{name}(code{detached}).mean() - self.{name}(prior).mean()
            self.encoder_optimizer.zero_grad()
            encoder_loss.backward(retain_graph=True)
            self.{name}_optimizer.zero_grad()
            {name}_loss.backward()
            self.encoder_optimizer.step()
            self.{name}_optimizer.step()
"""


@pytest.mark.parametrize(
    ("name", "detached", "codes"),
    [
        ("discriminator", "", {"GG103"}),
        ("discriminator", ".detach()", set()),
        # A decoder's loss may mean the encoder behind it: its name does not tell.
        ("decoder", "", set()),
    ],
)
def test_a_loss_called_after_the_adversary_trains_the_adversary_alone(
    tmp_path: Path, name: str, detached: str, codes: set[str]
) -> None:
    """Where losses run backward together before all optimizers step, names tell adversaries."""
    text = TOGETHER.format(name=name, detached=detached)
    assert {code for code, _, _ in found(tmp_path, {"trainer.py": text}, "trainer.py")} == codes


PARTS = """
    import dataclasses
    from typing import NamedTuple

    import torch
    from torch import nn


    class Scores(NamedTuple):
        value: torch.Tensor


    class Critic(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.head = nn.Linear(width, 1)

        def forward(self, state, action):
            return Scores(value=self.head(torch.cat([state, action], dim=-1)))

        def __call__(self, state, action):
            return super().__call__(state, action)


    class Policy(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.body = nn.Linear(width, width)

        def forward(self, state):
            return self.body(state)


    class Stepper:
        def __init__(self, params, optim):
            self._params = params
            self._optim = optim

        def zero_grad(self):
            self._optim.zero_grad()

        def step(self):
            self._optim.step()


    @dataclasses.dataclass()
    class StepperFactory:
        lr: float = 1e-3

        def create(self, named_modules):
            known = {}
            for _, module in named_modules:
                for parameter in module.parameters():
                    if parameter not in known:
                        known[parameter] = parameter
            params = list(known.values())
            return Stepper(params, torch.optim.Adam(params, lr=self.lr))


    @dataclasses.dataclass(frozen=True)
    class Modules:
        policy: Policy
        critic: Critic
        target: Critic
        policy_opt: Stepper
        critic_opt: Stepper


    def reduce(values, how):
        if how.dim() == 3:
            return values.mean(dim=0)
        elif how.dim() == 4:
            return values.mean(dim=(0, 1))
        raise ValueError(how)


    def copy_into(target, source):
        with torch.no_grad():
            for p, q in zip(target.parameters(), source.parameters()):
                p.data.copy_(q.data)
"""

LEARNER = """
    import torch

    from .parts import Modules, copy_into, reduce


    class Learner:
        def __init__(self, modules: Modules, gamma, compiled):
            self._modules = modules
            self._gamma = gamma
            self._critic_grad = torch.compile(self.critic_grad) if compiled else self.critic_grad
            copy_into(self._modules.target, self._modules.critic)

        def bootstrap(self, batch):
            with {guard}:
                action = self._modules.policy(batch.after)
                return reduce(self._modules.target(batch.after, action).value, batch.mask)

        def critic_grad(self, batch):
            {clear}
            aim = batch.reward + self._gamma * self.bootstrap(batch)
            loss = (self._modules.critic(batch.state, batch.action).value - aim).pow(2).mean()
            loss.backward()
            return loss

        def policy_grad(self, batch):
            self._modules.policy_opt.zero_grad()
            action = self._modules.policy(batch.state)
            loss = -self._modules.critic(batch.state, action).value.mean()
            loss.backward()
            return loss

        def update(self, batch):
            self._critic_grad(batch)
            self._modules.critic_opt.step()
            self.policy_grad(batch)
            self._modules.policy_opt.step()
            copy_into(self._modules.target, self._modules.critic)
"""

ALGORITHM = """
    import dataclasses

    from .learner import Learner
    from .parts import Critic, Modules, Policy, StepperFactory


    def make_factory():
        return dataclasses.field(default_factory=lambda: StepperFactory())


    @dataclasses.dataclass()
    class Settings:
        gamma: float = 0.99
        policy_factory: StepperFactory = make_factory()
        critic_factory: StepperFactory = make_factory()

        def create(self, device):
            return Algorithm(self, device)


    class Algorithm:
        def __init__(self, settings, device):
            self._settings = settings
            self._device = device
            self._learner = None

        def build(self, width):
            policy, critic, target = Policy(width), Critic(width), Critic(width)
            policy.to(self._device)
            policy_opt = self._settings.policy_factory.create(policy.named_modules())
            critic_opt = self._settings.critic_factory.create(critic.named_modules())
            modules = Modules(
                policy=policy,
                critic=critic,
                target=target,
                policy_opt=policy_opt,
                critic_opt=critic_opt,
            )
            self._learner = Learner(modules, gamma=self._settings.gamma, compiled=False)
"""

KEPT = {"guard": "torch.no_grad()", "clear": "self._modules.critic_opt.zero_grad()"}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        pytest.param({}, [], id="as it should be"),
        pytest.param(
            {"guard": "torch.enable_grad()"},
            [("GG101", "self._modules.policy"), ("GG104", "self._modules.target")],
            id="target not cut off",
        ),
        pytest.param(
            {"clear": "pass"}, [("GG204", "self._modules.critic")], id="critic never cleared"
        ),
    ],
)
def test_an_object_holds_what_the_project_makes_it_with(
    tmp_path: Path, changed: dict[str, str], expected: list[tuple[str, str]]
) -> None:
    """What another file passes in is known, through settings, factories and data classes."""
    texts = {"parts": PARTS, "learner": LEARNER.format(**KEPT | changed), "algorithm": ALGORITHM}
    files = {f"{name}.py": text for name, text in texts.items()}
    told = [(code, model) for code, model, _ in found(tmp_path, files, "learner.py")]
    assert sorted(told) == expected


CALLBACK = """
    import torch
    from torch import nn
    from elsewhere import Replay


    class Agent:
        def __init__(self, policy, policy_optimizer, target=None):
            self.policy, self.policy_optimizer, self.target = policy, policy_optimizer, target
            self.replay = Replay(update=self.update)
            if target is not None:
                self.temperature = nn.Parameter(torch.zeros(1))
                self.temperature_optimizer = torch.optim.Adam([self.temperature])

        def update_temperature(self, log_prob):
            loss = -(self.temperature.exp() * (log_prob + self.target)).mean()
            self.temperature_optimizer.zero_grad()
            loss.backward()
            self.temperature_optimizer.step()

        def update_policy(self, batch):
            log_prob = self.policy(batch).log_prob(batch)
            loss = log_prob.mean()
            self.policy_optimizer.zero_grad()
            loss.backward()
            self.policy_optimizer.step()
            if self.target is not None:
                self.update_temperature(log_prob{detached})

        def update(self, batch):
            self.update_policy(batch)

        def observe(self, state):
            self.replay.update_if_necessary(state)
"""


@pytest.mark.parametrize(("detached", "codes"), [(".detach()", set()), ("", {"GG101"})])
def test_a_method_given_away_is_an_entry_and_what_it_calls_is_none(
    tmp_path: Path, detached: str, codes: set[str]
) -> None:
    """A constructor that hands out the training step does not hide the step."""
    files = {"agent.py": CALLBACK.format(detached=detached)}
    assert {code for code, _, _ in found(tmp_path, files, "agent.py")} == codes

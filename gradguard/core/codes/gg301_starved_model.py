"""A loss does not reach a model that it must train.

## What it does

Reports a model that never receives gradient from the loss that should train it: something on the
way has been detached, computed without gradient, or replaced by a copy. It is judged at the
model's first step after the loss ran, or when the guard ends if there was no step, and afterwards
only if the loss has since missed the model ten times in a row. One batch with an empty mask is no
finding.

A warning where the intent was inferred; an error where a policy declared it. If a loss reaches
none of the models it must train, this is the only finding about it: what it reaches besides is a
consequence.

## Why is this bad?

The model stays as it was initialised. The loss can go down all the same, since the other models
adapt to a random one, and some of them do so well: a decoder over a random codebook, a head over
random features. The metric ends a little lower than it might have, and no message says why.

`backward()` complains only if *nothing* in the graph requires gradient. One detach too many beside
a live critic goes through in silence, and the optimizer skips parameters whose `.grad` is `None`
without a word.

It is harmless for a model that is trained by other losses or only from time to time: use `may`
instead of naming it under `only` or `must`. A model with no parameter that requires gradient at
the moment is not expected to be reached.

## Example

```python
import torch

import gradguard

generator, critic = torch.nn.Linear(4, 2), torch.nn.Linear(2, 1)
generator_opt = torch.optim.RMSprop(generator.parameters(), lr=1e-3)
critic_opt = torch.optim.RMSprop(critic.parameters(), lr=1e-3)
guard = gradguard.Guard(
    {"generator": generator, "critic": critic},
    {"critic_loss": "critic", "generator_loss": "generator"},
    on_violation="record",
)
with guard:
    fake = generator(torch.randn(8, 4)).detach()  # right for the critic alone
    critic_loss = critic(fake).mean() - critic(torch.randn(8, 2)).mean()
    critic_opt.zero_grad()
    critic_loss.backward()
    critic_opt.step()

    generator_loss = -critic(fake).mean()
    generator_opt.zero_grad()
    generator_loss.backward()  # fills the critic's .grad, never the generator's
    generator_opt.step()
```

## Use instead

```python
import torch

import gradguard

generator, critic = torch.nn.Linear(4, 2), torch.nn.Linear(2, 1)
generator_opt = torch.optim.RMSprop(generator.parameters(), lr=1e-3)
critic_opt = torch.optim.RMSprop(critic.parameters(), lr=1e-3)
guard = gradguard.Guard(
    {"generator": generator, "critic": critic},
    {"critic_loss": "critic", "generator_loss": "generator"},
    on_violation="record",
)
with guard:
    fake = generator(torch.randn(8, 4))
    critic_loss = critic(fake.detach()).mean() - critic(torch.randn(8, 2)).mean()
    critic_opt.zero_grad()
    critic_loss.backward()
    critic_opt.step()

    generator_loss = -critic(fake).mean()
    generator_opt.zero_grad()
    generator_loss.backward()
    generator_opt.step()
```

Detach at the use that wants a constant, not at the place where the value is made.

## Fix safety

Taking a detach out lets gradient flow to everything behind it, not only to the starved model. Run
the guard again: what was cut may have been cut for a reason, and a leak (GG101) then says so. The
numbers of the run change, which is the purpose.

## References

- van den Oord, Vinyals and Kavukcuoglu, "Neural Discrete Representation Learning", NeurIPS 2017:
  the straight-through estimator bypasses the codebook, which therefore needs a loss of its own; a
  stop-gradient on the wrong side of that loss starves it.
- Haarnoja et al., "Soft Actor-Critic: Off-Policy Maximum Entropy Deep Reinforcement Learning with
  a Stochastic Actor", ICML 2018: the actor is trained through the reparameterised action, and a
  detached action starves it.
- PyTorch documentation: "torch.Tensor.detach", "torch.distributions" (`sample` carries no
  gradient, `rsample` does).
"""

from __future__ import annotations

from gradguard.core.codes import Code
from gradguard.core.findings import Severity

CODE = Code(
    code="GG301",
    name="starved-model",
    severity=Severity.WARNING,
    on_by_default=True,
    halves=("runtime", "lint"),
    module=__name__,
)

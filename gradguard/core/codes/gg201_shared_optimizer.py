"""One optimizer steps for two losses, and moves a model that one of them only passes through.

## What it does

Reports an optimizer that holds two models and steps after each of two losses, where a model that
one loss trains directly is merely passed through by the other. Each loss has its own clear,
backward pass and step. One joint loss, or losses summed before one backward pass, is not reported
unless a policy says otherwise.

## Why is this bad?

A loss that passes through a model on its way leaves gradient in it. With an optimizer for each
model this spill waits until it is cleared. A shared optimizer consumes it at once: the generator's
step also moves the critic, in the direction that makes the critic worse at its task. The two losses
undo each other's work, and the moments of an adaptive optimizer mix the gradients of both.

It is harmless where both losses are meant to train both models; then say so in a policy.

## Example

```python
import torch

generator, critic = torch.nn.Linear(4, 2), torch.nn.Linear(2, 1)
optimizer = torch.optim.RMSprop([*generator.parameters(), *critic.parameters()], lr=1e-3)
for _ in range(3):
    real, fake = torch.randn(8, 2), generator(torch.randn(8, 4))
    critic_loss = critic(fake.detach()).mean() - critic(real).mean()
    optimizer.zero_grad()
    critic_loss.backward()
    optimizer.step()

    generator_loss = -critic(generator(torch.randn(8, 4))).mean()
    optimizer.zero_grad()
    generator_loss.backward()
    optimizer.step()  # moves the critic too, against its own loss
```

## Use instead

```python
import torch

generator, critic = torch.nn.Linear(4, 2), torch.nn.Linear(2, 1)
generator_opt = torch.optim.RMSprop(generator.parameters(), lr=1e-3)
critic_opt = torch.optim.RMSprop(critic.parameters(), lr=1e-3)
for _ in range(3):
    real, fake = torch.randn(8, 2), generator(torch.randn(8, 4))
    critic_loss = critic(fake.detach()).mean() - critic(real).mean()
    critic_opt.zero_grad()
    critic_loss.backward()
    critic_opt.step()

    generator_loss = -critic(generator(torch.randn(8, 4))).mean()
    generator_opt.zero_grad()
    generator_loss.backward()
    generator_opt.step()
```

## Fix safety

Two optimizers have two states: checkpoints of the shared one do not load into them, and schedulers
and gradient scalers that were built on it have to be built for each. Parameter groups alone do not
help, since `step()` steps all groups.

## References

- Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014: Algorithm 1 updates one network
  at a time.
- PyTorch documentation: "torch.optim" (section on constructing an optimizer).
"""

from __future__ import annotations

from gradguard.core.codes import Code
from gradguard.core.findings import Severity

CODE = Code(
    code="GG201",
    name="shared-optimizer",
    severity=Severity.ERROR,
    on_by_default=True,
    halves=("runtime", "lint"),
    module=__name__,
)

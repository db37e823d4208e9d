"""A model is stepped between a loss's forward pass and its backward pass.

## What it does

Reports an optimizer step that changes a model in place while a graph that was built with its old
parameters still waits for its backward pass.

## Why is this bad?

The backward pass needs the weights that the forward pass used. After the step they are gone, and
what is computed is a gradient at a point where the loss never was. PyTorch notices most of these
and raises "one of the variables needed for gradient computation has been modified by an inplace
operation". It does not notice a fused optimizer, which changes parameters without counting the
change, nor a value that went into the loss without being saved for backward. Then the gradient is
wrong and nothing is said.

Copying the weights into new tensors to get rid of the message keeps the mistake and hides it.

It is harmless for a graph whose backward pass needs no weights of the stepped model.

## Example

```python
import torch

generator, critic = torch.nn.Linear(4, 2), torch.nn.Linear(2, 1)
generator_opt = torch.optim.Adam(generator.parameters(), lr=1e-3, fused=True)
critic_opt = torch.optim.Adam(critic.parameters(), lr=1e-3, fused=True)
for _ in range(3):
    real, fake = torch.randn(8, 2), generator(torch.randn(8, 4))
    generator_loss = -critic(fake).mean()
    critic_loss = critic(fake.detach()).mean() - critic(real).mean()

    critic_opt.zero_grad()
    critic_loss.backward()
    critic_opt.step()  # the generator's loss was computed with the critic before this

    generator_opt.zero_grad()
    generator_loss.backward()
    generator_opt.step()
```

## Use instead

```python
import torch

generator, critic = torch.nn.Linear(4, 2), torch.nn.Linear(2, 1)
generator_opt = torch.optim.Adam(generator.parameters(), lr=1e-3, fused=True)
critic_opt = torch.optim.Adam(critic.parameters(), lr=1e-3, fused=True)
for _ in range(3):
    real, fake = torch.randn(8, 2), generator(torch.randn(8, 4))
    critic_loss = critic(fake.detach()).mean() - critic(real).mean()
    critic_opt.zero_grad()
    critic_loss.backward()
    critic_opt.step()

    generator_loss = -critic(fake).mean()
    generator_opt.zero_grad()
    generator_loss.backward()
    generator_opt.step()
```

The other way round works as well: all backward passes first, then all steps.

## Fix safety

Computing the loss after the step makes it see the stepped model, which is what alternating training
means. Doing both backward passes before both steps trains both models against the state before;
pick what the method describes. Mind what one backward pass spills into the other model (GG204).

## References

- PyTorch documentation: "Autograd mechanics" (section on in-place correctness checks),
  "torch.optim.Adam" (argument `fused`).
"""

from __future__ import annotations

from gradguard.core.codes import Code
from gradguard.core.findings import Severity

CODE = Code(
    code="GG205",
    name="step-inside-graph",
    severity=Severity.ERROR,
    on_by_default=True,
    halves=("lint",),
    module=__name__,
)

"""A loss leaves gradient in a model that it has to pass through but does not train.

## What it does

Reports a loss that reaches a forbidden model on its way to an allowed one. The generator's loss
goes through the critic, the actor's loss through the Q-network. The gradient in the model passed
through is a by-product of getting to the other side; a `detach()` there would cut the wanted
gradient as well, which is what tells a spill from a leak (GG101).

The code is off by default: it describes the way such training is usually written. It is in
`guard.ledger.findings`, not in `guard.findings`.

## Why is this bad?

Usually it is not. The by-product does no harm as long as it is cleared before the optimizer of the
model passed through steps; if it is not, that is the error GG204 or GG103.

What it always costs is work and memory. Backward computes the gradient of every weight of the
model passed through and throws it away; for a generator step through an equally large critic that
is about a quarter of the backward pass. A frozen model that is only passed through, such as a
perceptual network or a reward model, also keeps a `.grad` as large as itself.

## Example

```python
import torch

import gradguard

generator, critic = torch.nn.Linear(4, 2), torch.nn.Linear(2, 1)
generator_opt = torch.optim.RMSprop(generator.parameters(), lr=1e-3)
critic_opt = torch.optim.RMSprop(critic.parameters(), lr=1e-3)
guard = gradguard.Guard(
    {"generator": generator, "critic": critic},
    {"generator_loss": "generator"},
    on_violation="record",
)
with guard:
    generator_loss = -critic(generator(torch.randn(8, 4))).mean()
    generator_opt.zero_grad()
    generator_loss.backward()  # computes the critic's gradient, which nobody reads
    generator_opt.step()
    critic_opt.zero_grad()
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
    {"generator_loss": "generator"},
    on_violation="record",
)
with guard:
    generator_loss = -critic(generator(torch.randn(8, 4))).mean()
    generator_opt.zero_grad()
    guard.backward(generator_loss, "generator_loss")  # writes to the generator alone
    generator_opt.step()
```

For a model that no optimizer holds, `model.requires_grad_(False)` does the same once and for all:
gradient still flows through the model, none is stored in it.

## Fix safety

Filtering the backward pass leaves the gradient of the trained model as it was, bit for bit, and
stops writing the other one. A program that reads the other one on purpose, to log its norm or to
accumulate it, loses it. `requires_grad_(False)` around a call has to come before the call, and to
be undone before the model's own loss is computed.

## References

- Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014.
- Lillicrap et al., "Continuous control with deep reinforcement learning", ICLR 2016: the actor is
  trained by the gradient of the critic with respect to the action.
- PyTorch documentation: "torch.autograd.backward" (argument `inputs`), "Autograd mechanics"
  (section on locally disabling gradient computation).
"""

from __future__ import annotations

from gradguard.core.codes import Code
from gradguard.core.findings import Severity

CODE = Code(
    code="GG102",
    name="spilled-gradient",
    severity=Severity.INFO,
    on_by_default=False,
    halves=("runtime", "lint"),
    module=__name__,
)

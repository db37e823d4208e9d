"""An optimizer step consumes gradient that a `zero_grad()` in the right place would have removed.

## What it does

Reports a step that finds old gradient beside the new: what another loss spilled into the model on
its way elsewhere, or the model's own gradient from an earlier step. The test is whether a clear
just before the first backward pass that is meant for this step would have removed it. If so, a
`zero_grad()` is missing or stands in the wrong place. One deposit that is consumed by two steps is
reported too.

With `on_violation="raise"` the error is raised just before the step: no parameter has moved yet.

## Why is this bad?

`backward()` adds to `.grad`. With one model, clearing *before* backward and clearing *after* the
step come to the same. With two they do not: between a model's step and its next backward pass lies
the other model's backward pass, and what that spills is still there.

In an adversarial pair this hits the sorest spot. The generator's loss is the negative of the
critic's loss on fakes, so what it spills into the critic is the critic's own gradient with the
sign turned: the next critic step sees the fake half of its loss almost cancelled. The critic gets
weak, the generator gets no signal, and the loop looks as if the learning rate were wrong.

It is harmless for gradient accumulation, where several backward passes of the *same* loss are
meant for one step: these are not reported.

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
    for _ in range(3):
        real, fake = torch.randn(8, 2), generator(torch.randn(8, 4))
        critic_loss = critic(fake.detach()).mean() - critic(real).mean()
        critic_loss.backward()
        critic_opt.step()
        critic_opt.zero_grad()  # too early: the next backward fills the critic's .grad again

        generator_loss = -critic(fake).mean()
        generator_loss.backward()
        generator_opt.step()
        generator_opt.zero_grad()
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

`guard.backward(generator_loss, "generator_loss")` is the other way: what is never written need not
be cleared.

## Fix safety

Moving `zero_grad()` to just before the backward pass is safe wherever one backward pass belongs to
one step. Where gradients are accumulated over micro-batches on purpose, it belongs before the
first of them and not inside their loop. Code that reads `.grad` after the step, to log norms,
still finds it there, now with the other loss's spill in it.

`gradguard lint --fix --unsafe-fixes` adds the optimizer's `zero_grad()` right before the backward
pass, where that removes the finding and the backward pass trains the optimizer's model. Mind
accumulation that it cannot see.

## References

- Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014: Algorithm 1.
- Lillicrap et al., "Continuous control with deep reinforcement learning", ICLR 2016: the actor's
  update runs through the critic and must not train it.
- PyTorch documentation: "torch.optim.Optimizer.zero_grad", "torch.Tensor.backward" (gradients
  accumulate in the leaves).
"""

from __future__ import annotations

from gradguard.core.codes import Code
from gradguard.core.findings import Severity

CODE = Code(
    code="GG204",
    name="stale-gradient",
    severity=Severity.ERROR,
    on_by_default=True,
    halves=("runtime", "lint"),
    module=__name__,
)

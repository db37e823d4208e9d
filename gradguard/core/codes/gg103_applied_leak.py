"""An optimizer step consumes the gradient of a loss that was not meant for its model.

## What it does

Reports a step that applies foreign gradient. Two ways lead here:

- A leak (GG101) or a live shadow model (GG104) is still in `.grad` when the model's optimizer
  steps. The earlier finding becomes this one, so that one mistake stays one finding.
- Gradient that a loss spilled into a model on its way (GG102) lies in the same window as that
  model's own gradient, so that no `zero_grad()` could have separated them: one backward of a sum
  of two losses, or two backward passes of which the model's own came first, so that a clear
  between them would have removed that one. If a clear would have helped, the code is GG204.

With `on_violation="raise"` the error is raised just before the step: no parameter has moved yet.

## Why is this bad?

The model is being trained by the wrong objective. An adversarial pair shows it best: the critic's
loss rises when fakes look real, so a generator that is stepped with it is trained to be caught.
The two losses may cancel in part, and the run then looks like one with a bad learning rate. With a
critic's loss in an actor, or a student's loss in its teacher, both sides can agree on a constant
that satisfies every loss and predicts nothing.

The damage outlives the step: the optimizer has put the foreign gradient into its momentum and its
second moments, and goes on applying it after the leak has stopped.

It is harmless only where the loss was meant for this model after all; then the policy should say
so.

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
real, noise = torch.randn(8, 2), torch.randn(8, 4)
with guard:
    generator_opt.zero_grad()
    critic_opt.zero_grad()
    critic_loss = critic(generator(noise)).mean() - critic(real).mean()
    critic_loss.backward()
    critic_opt.step()

    generator_loss = -critic(generator(noise)).mean()
    generator_loss.backward()  # adds to what critic_loss left in the generator
    generator_opt.step()  # applies both
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
real, noise = torch.randn(8, 2), torch.randn(8, 4)
with guard:
    generator_opt.zero_grad()
    critic_opt.zero_grad()
    fake = generator(noise)
    critic_loss = critic(fake.detach()).mean() - critic(real).mean()
    critic_loss.backward()
    critic_opt.step()

    generator_loss = -critic(fake).mean()
    generator_loss.backward()
    generator_opt.step()
```

Where one backward pass of a sum has to serve two models, give each loss its own:
`guard.backward(actor_loss, "actor_loss")` writes only where `actor_loss` may train.

## Fix safety

The fix changes training, which is its purpose: results obtained before are not comparable. An
optimizer state saved while the leak was there still carries the foreign gradient; after the fix,
start it anew or expect some steps in the old direction.

`gradguard lint --fix --unsafe-fixes` puts a `detach()` behind the expression by which the gradient
enters, where nothing else loses gradient by it. It is unsafe since the step applies other numbers
from then on, which is its purpose.

## References

- Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014: Algorithm 1.
- Haarnoja et al., "Soft Actor-Critic: Off-Policy Maximum Entropy Deep Reinforcement Learning with
  a Stochastic Actor", ICML 2018: one objective for each network, and which parameters each trains.
- Chen and He, "Exploring Simple Siamese Representation Learning", CVPR 2021: what happens to a
  pair of networks when the stop-gradient between them is taken out.
- Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.
- PyTorch documentation: "torch.optim.Optimizer.step", "torch.Tensor.detach".
"""

from __future__ import annotations

from gradguard.core.codes import Code
from gradguard.core.findings import Severity

CODE = Code(
    code="GG103",
    name="applied-leak",
    severity=Severity.ERROR,
    on_by_default=True,
    halves=("runtime", "lint"),
    module=__name__,
)

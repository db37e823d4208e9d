"""A loss reaches a model it does not train, over a dead end.

## What it does

Reports a loss whose backward pass puts gradient into a model that the policy does not let it
train, although nothing the loss may train lies behind that model. The model's output is a *dead
end* for this loss: a `detach()` on it would change no gradient that anybody wants.

A loss that has to go *through* a foreign model, as a generator's loss goes through the critic, is
a spill and not a leak: see GG102.

## Why is this bad?

Nothing crashes and the loss curve looks normal. What happens next depends on who reads the
gradient that should not be there:

- If the foreign model's optimizer steps before the gradient is cleared, the model is trained by
  the wrong loss. A generator that receives the critic's gradient learns to look *fake*. The
  finding is then upgraded to the error GG103.
- If it is cleared in time, the result is right, but each step has paid for a backward pass through
  a model that needed none, and kept that model's activations in memory for it.
- If nothing ever clears it, it piles up. `clip_grad_norm_` over all parameters of an agent counts
  it in the norm and shrinks the steps of the models that are trained as intended.

It is harmless, apart from the wasted work, where the foreign model's gradient is always cleared
between this backward pass and that model's next step. If this is so by design, say it in the
policy with `may`.

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
    fake = generator(noise)
    critic_loss = critic(fake).mean() - critic(real).mean()
    critic_opt.zero_grad()
    critic_loss.backward()  # fills the generator's .grad as well
    critic_opt.step()

    generator_loss = -critic(generator(noise)).mean()
    generator_opt.zero_grad()  # the leak is thrown away here
    generator_loss.backward()
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
real, noise = torch.randn(8, 2), torch.randn(8, 4)
with guard:
    fake = generator(noise)
    critic_loss = critic(fake.detach()).mean() - critic(real).mean()
    critic_opt.zero_grad()
    critic_loss.backward()
    critic_opt.step()

    generator_loss = -critic(fake).mean()  # its graph is whole: no second generator call
    generator_opt.zero_grad()
    generator_loss.backward()
    generator_opt.step()
```

Where the line that makes the output is out of reach, filter the backward pass itself:
`gradguard.backward(critic_loss, into=critic)`.

## Fix safety

`detach()` on the model's output changes neither the value of the loss nor any gradient of a model
that the loss may train. It does change the foreign model's training if that model had relied on
the gradient, that is, if the policy is wrong. It also keeps the backward pass from freeing the
foreign model's graph, so that the same output can serve that model's own loss afterwards.

`gradguard lint --fix` puts the `detach()` behind the expression by which the gradient enters. It
does so only if the file, analysed again, has lost this finding and won no other one, and every
loss still reaches what it reached, save for the foreign model. In a function that other code may
call as well, it asks for `--unsafe-fixes`.

## References

- Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014: Algorithm 1 updates one network
  at a time, with the other held fixed.
- Arjovsky, Chintala and Bottou, "Wasserstein GAN", ICML 2017: the loop the example is cut from.
- PyTorch documentation: "torch.Tensor.detach", "Autograd mechanics", "torch.autograd.backward"
  (argument `inputs`).
"""

from __future__ import annotations

from gradguard.core.codes import Code
from gradguard.core.findings import Severity

CODE = Code(
    code="GG101",
    name="leaking-loss",
    severity=Severity.WARNING,
    on_by_default=True,
    halves=("runtime", "lint"),
    module=__name__,
)

"""An optimizer step moves a model although no loss meant for it has put gradient there.

## What it does

Reports a step that changes parameters whose gradient is zero. Optimizers skip a parameter only if
its `.grad` is `None`. A gradient of zeros, as `zero_grad(set_to_none=False)` leaves it or as a
masked loss delivers it, is a gradient to them: momentum, running averages and weight decay are
applied.

## Why is this bad?

A model that was trained before and is left alone now, because its phase is over or because this
step is for another model in the same optimizer, does not stay where it is. It drifts along its old
momentum and, under weight decay, toward zero: at a learning rate of 0.1, Adam moves a parameter by
0.067 in one step with gradient zero. A feature extractor that was to be held fixed changes under
the head that is being fitted to it, and an actor that is updated every second step is updated
every step.

Momentum also carries a leak on. After the forbidden gradient has stopped, the optimizer goes on
applying what it has already taken in.

It is harmless where coasting is wanted, as with a sparse loss that skips a model for a batch, and
with plain SGD without momentum and weight decay, where a gradient of zero moves nothing and
nothing is reported.

## Example

```python
import torch

import gradguard

encoder, head = torch.nn.Linear(4, 4), torch.nn.Linear(4, 1)
optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=1e-2)
guard = gradguard.Guard(
    {"encoder": encoder, "head": head},
    {"joint_loss": ["encoder", "head"], "head_loss": "head"},
    on_violation="record",
)
x = torch.randn(8, 4)
with guard:
    joint_loss = head(encoder(x)).square().mean()
    optimizer.zero_grad(set_to_none=False)
    joint_loss.backward()
    optimizer.step()

    head_loss = head(encoder(x).detach()).square().mean()
    optimizer.zero_grad(set_to_none=False)  # the encoder's gradient is 0 now, not None
    head_loss.backward()
    optimizer.step()  # moves the encoder as well
```

## Use instead

```python
import torch

import gradguard

encoder, head = torch.nn.Linear(4, 4), torch.nn.Linear(4, 1)
optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=1e-2)
guard = gradguard.Guard(
    {"encoder": encoder, "head": head},
    {"joint_loss": ["encoder", "head"], "head_loss": "head"},
    on_violation="record",
)
x = torch.randn(8, 4)
with guard:
    joint_loss = head(encoder(x)).square().mean()
    optimizer.zero_grad()
    joint_loss.backward()
    optimizer.step()

    head_loss = head(encoder(x).detach()).square().mean()
    optimizer.zero_grad()  # None, which the step skips
    head_loss.backward()
    optimizer.step()
```

One optimizer for each model makes the question go away: a model is stepped when, and only when,
its own optimizer is.

## Fix safety

`set_to_none=True`, the default since PyTorch 2.0, changes the numbers of a run that relied on
coasting, and breaks code that reads `p.grad` right after the clear without expecting `None`. Some
set-ups keep zeros on purpose, to keep the addresses of gradients fixed for CUDA graphs; give such
a model its own optimizer instead.

## References

- Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015: the moments decay slowly,
  so a step with gradient zero is not zero.
- Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019: decay does not depend
  on the gradient at all.
- PyTorch documentation: "torch.optim.Optimizer.zero_grad" (argument `set_to_none`).
"""

from __future__ import annotations

from gradguard.core.codes import Code
from gradguard.core.findings import Severity

CODE = Code(
    code="GG206",
    name="moved-without-gradient",
    severity=Severity.WARNING,
    on_by_default=True,
    halves=("runtime",),
    module=__name__,
)

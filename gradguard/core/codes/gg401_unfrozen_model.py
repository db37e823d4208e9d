"""A model that was to be held fixed has changed, or could again.

## What it does

Reports, at the end of `with gradguard.frozen(model)`, a parameter of the model that is not what it
was at the start. Something inside the block stepped it, wrote to it, replaced it or switched its
`requires_grad` back on. Each parameter's own `requires_grad` is put back as it was, also if the
block raises.

## Why is this bad?

"Frozen" is usually meant as a promise about values, but `requires_grad_(False)` is a statement
about future graphs. It does not hold what it seems to promise:

- A `.grad` from before the freeze stays. An optimizer that holds the parameter goes on consuming
  it at every step, and no backward pass replaces it.
- Momentum and weight decay move it as long as there is a `.grad`.
- An average, a copy or a reset writes to it under `no_grad`, which needs no gradient at all.
- A helper that ends with `model.requires_grad_(True)` thaws what somebody else froze.
- `model.requires_grad = False` on a module, or `param.require_grad = False` with its letter
  missing, sets an attribute that nobody reads.

A teacher, a reference policy or a backbone that moves a little breaks no run. It breaks the
comparison the run was made for: the divergence to a moving reference is bounded by nothing, and
features computed yesterday do not match those of today.

It is harmless where the change is part of the method, such as the averaging of a momentum teacher.
Do it outside the block.

## Example

```python
import torch

import gradguard

backbone, head = torch.nn.Linear(4, 4), torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD([*backbone.parameters(), *head.parameters()], lr=1e-2)
x = torch.randn(8, 4)
head(backbone(x)).square().mean().backward()
optimizer.step()

with gradguard.frozen(backbone):
    head(backbone(x)).mean().backward()
    optimizer.step()  # the backbone's .grad is still that of the step before
```

## Use instead

```python
import torch

import gradguard

backbone, head = torch.nn.Linear(4, 4), torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD([*backbone.parameters(), *head.parameters()], lr=1e-2)
x = torch.randn(8, 4)
head(backbone(x)).square().mean().backward()
optimizer.step()

with gradguard.frozen(backbone):
    optimizer.zero_grad()
    head(backbone(x)).mean().backward()
    optimizer.step()
```

Better still, build the optimizer from the parameters that train: what no optimizer holds, no
optimizer moves.

## Fix safety

Clearing the gradients of a model that is being frozen loses nothing that is wanted. Taking its
parameters out of an optimizer changes the layout of the optimizer's `state_dict`, so that older
checkpoints of it no longer load.

## References

- Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015: the teacher's
  outputs are constants.
- Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022: the base is frozen,
  and that it is the same base for every adapter rests on it.
- PyTorch documentation: "torch.nn.Module.requires_grad_", "Autograd mechanics" (section on setting
  `requires_grad`).
"""

from __future__ import annotations

from gradguard.core.codes import Code
from gradguard.core.findings import Severity

CODE = Code(
    code="GG401",
    name="unfrozen-model",
    severity=Severity.ERROR,
    on_by_default=True,
    halves=("runtime", "lint"),
    module=__name__,
)

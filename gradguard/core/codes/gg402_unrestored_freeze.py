"""A model was frozen for a while and never thawed.

## What it does

Reports a model whose parameters were switched to `requires_grad=False` in the course of the run,
which an optimizer holds and steps, and which receives no gradient from then on.

## Why is this bad?

Switching a model off for a warm-up, or while another model's loss passes through it, is a change of
state that outlives the lines that needed it. If the way back is missing, or an exception or an
early `return` skips it, the model is silently out of the training from then on. Its optimizer goes
on stepping over parameters without gradient.

Thawing everything at the end is the opposite mistake: `requires_grad_(True)` on the whole model
also thaws what was frozen before. `gradguard.frozen` puts back each parameter's own setting, also
after an exception.

It is harmless where the freeze is meant to last; take the model out of the optimizer then.

## Example

```python
import torch

encoder, head = torch.nn.Linear(4, 4), torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD([*encoder.parameters(), *head.parameters()], lr=1e-2)
encoder.requires_grad_(False)  # for the warm-up
for step in range(6):
    if step == 3:
        print("warm-up is over")  # and the encoder is still frozen
    loss = head(encoder(torch.randn(8, 4))).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
```

## Use instead

```python
import torch

encoder, head = torch.nn.Linear(4, 4), torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD([*encoder.parameters(), *head.parameters()], lr=1e-2)
encoder.requires_grad_(False)
for step in range(6):
    if step == 3:
        encoder.requires_grad_(True)
    loss = head(encoder(torch.randn(8, 4))).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
```

Where the freeze belongs to one block, `with gradguard.frozen(encoder):` ends it with the block.

## Fix safety

The model trains again, with whatever moments its optimizer kept from before the freeze. Thaw only
what was thawed before.

## References

- Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018:
  gradual unfreezing.
- PyTorch documentation: "torch.nn.Module.requires_grad_", "Autograd mechanics" (section on setting
  `requires_grad`).
"""

from __future__ import annotations

from gradguard.core.codes import Code
from gradguard.core.findings import Severity

CODE = Code(
    code="GG402",
    name="unrestored-freeze",
    severity=Severity.WARNING,
    on_by_default=True,
    halves=("runtime",),
    module=__name__,
)

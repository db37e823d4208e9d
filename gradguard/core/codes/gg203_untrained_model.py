"""A loss trains a model that no optimizer steps.

## What it does

Reports a model that receives gradient from a loss that is meant for it, while no optimizer that
steps holds its parameters: it was left out, its optimizer is never stepped, it was put in place
after the optimizer had been built, or the optimizers of two models are swapped.

## Why is this bad?

An optimizer keeps the parameter objects that it was given. Replacing a head, adding a layer or
loading a different backbone afterwards makes new ones, which it does not know. Gradient arrives,
`.grad` fills, and nothing reads it: the new head stays as it was initialised. The rest of the
network adapts to a random head, often well enough to go unnoticed.

A model in a plain Python list has the same fate, since `parameters()` does not look into lists: use
`nn.ModuleList`.

It is harmless for models that are held fixed on purpose; then `requires_grad_(False)` says so, and
saves the work.

## Example

```python
import torch

encoder, head = torch.nn.Linear(4, 4), torch.nn.Linear(4, 10)
optimizer = torch.optim.SGD([*encoder.parameters(), *head.parameters()], lr=1e-2)
head = torch.nn.Linear(4, 3)  # the optimizer still holds the old one
for _ in range(3):
    loss = head(encoder(torch.randn(8, 4))).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
```

## Use instead

```python
import torch

encoder, head = torch.nn.Linear(4, 4), torch.nn.Linear(4, 3)
optimizer = torch.optim.SGD([*encoder.parameters(), *head.parameters()], lr=1e-2)
for _ in range(3):
    loss = head(encoder(torch.randn(8, 4))).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
```

Where the optimizer has to exist first, `optimizer.add_param_group` takes the new parameters in.

## Fix safety

The model begins to train, which changes the run. What learned around the untrained part may have to
be trained anew.

## References

- PyTorch documentation: "torch.optim" (section on constructing an optimizer),
  "torch.nn.ModuleList", "torch.optim.Optimizer.add_param_group".
"""

from __future__ import annotations

from gradguard.core.codes import Code
from gradguard.core.findings import Severity

CODE = Code(
    code="GG203",
    name="untrained-model",
    severity=Severity.WARNING,
    on_by_default=True,
    halves=("runtime", "lint"),
    module=__name__,
)

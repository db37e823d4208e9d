"""A model that must train runs with gradient switched off.

## What it does

Reports a forward pass under `no_grad`, `inference_mode` or `set_grad_enabled(False)`, as a block or
as a decorator, of a model that an optimizer trains, where the result goes into a loss that is meant
for that model and no other pass of it does.

## Why is this bad?

Under `no_grad` no graph is recorded. The loss still goes down, since what comes after the block
trains, so the missing half shows only in the final number. The usual causes are a block that is one
line too long, a decorator on a helper that serves evaluation and training, and a cached feature
that was computed once under `no_grad` and is then used in training.

`eval()` is something else: it changes how layers behave and does not stop gradient.

It is harmless for models that are meant to stay fixed. Take them out of the optimizer, and the
finding goes away.

## Example

```python
import torch

encoder, head = torch.nn.Linear(4, 4), torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD([*encoder.parameters(), *head.parameters()], lr=1e-2)
for _ in range(3):
    x, y = torch.randn(8, 4), torch.randn(8, 1)
    with torch.no_grad():
        features = encoder(x)
    loss = (head(features) - y).square().mean()
    optimizer.zero_grad()
    loss.backward()  # fills the head's .grad, never the encoder's
    optimizer.step()
```

## Use instead

```python
import torch

encoder, head = torch.nn.Linear(4, 4), torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD([*encoder.parameters(), *head.parameters()], lr=1e-2)
for _ in range(3):
    x, y = torch.randn(8, 4), torch.randn(8, 1)
    features = encoder(x)
    loss = (head(features) - y).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
```

## Fix safety

The model begins to train, and its activations are kept for the backward pass: memory and time per
step go up.

## References

- PyTorch documentation: "torch.no_grad", "torch.inference_mode", "Autograd mechanics" (section on
  locally disabling gradient computation).
"""

from __future__ import annotations

from gradguard.core.codes import Code
from gradguard.core.findings import Severity

CODE = Code(
    code="GG303",
    name="no-grad-training",
    severity=Severity.WARNING,
    on_by_default=True,
    halves=("lint",),
    module=__name__,
)

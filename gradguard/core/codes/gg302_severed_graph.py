"""A loss has been cut off from the models that it was computed with.

## What it does

Reports a loss whose graph ends before it reaches any model, because the value was taken out of the
graph on the way and put into a fresh tensor: `torch.tensor(loss)`, `.item()`, `.data`, a round trip
through NumPy, `torch.tensor([...]).mean()` over a list of losses, a `requires_grad_()` on the
result.

## Why is this bad?

`backward()` on a value without graph raises an error, "element 0 of tensors does not require grad".
The advice that circulates for it is `requires_grad=True`, and that turns a loud mistake into a
silent one: the fresh tensor is a leaf, it receives the gradient 1, and no model receives any. The
loss is printed, it fluctuates with the data, and nothing trains.

It is harmless for values that are only logged.

## Example

```python
import torch

student, teacher = torch.nn.Linear(4, 2), torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(student.parameters(), lr=1e-2)
for _ in range(3):
    x = torch.randn(8, 4)
    losses = [(student(part) - teacher(part).detach()).square().mean() for part in x.chunk(2)]
    loss = torch.tensor([part.item() for part in losses], requires_grad=True).mean()
    optimizer.zero_grad()
    loss.backward()  # reaches a tensor that was made on the line above, and nothing else
    optimizer.step()
```

## Use instead

```python
import torch

student, teacher = torch.nn.Linear(4, 2), torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(student.parameters(), lr=1e-2)
for _ in range(3):
    x = torch.randn(8, 4)
    losses = [(student(part) - teacher(part).detach()).square().mean() for part in x.chunk(2)]
    loss = torch.stack(losses).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
```

`torch.stack`, `torch.cat` and sums keep the graph; constructors of tensors do not.

## Fix safety

The models begin to train, and the graph is kept until the backward pass, which needs more memory
than before.

## References

- PyTorch documentation: "torch.tensor" (it copies data and has no autograd history),
  "torch.Tensor.item", "torch.stack".
"""

from __future__ import annotations

from gradguard.core.codes import Code
from gradguard.core.findings import Severity

CODE = Code(
    code="GG302",
    name="severed-graph",
    severity=Severity.ERROR,
    on_by_default=True,
    halves=("runtime", "lint"),
    module=__name__,
)

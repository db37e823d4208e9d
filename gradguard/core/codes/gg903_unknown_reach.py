"""Whether a loss reaches a model cannot be told, because part of its graph is opaque.

## What it does

Reports a pair of loss and model whose only paths, if there are any, lie in a region that the
autograd graph does not show: a reentrant checkpoint, a compiled region, a custom
`autograd.Function`. The verdict is `Reach.UNKNOWN`, neither a leak nor a clean bill.

Inside a running guard this is rare. There the backward pass itself settles the question, by what
it wrote to `.grad`. What is asked before a backward pass, as `flow` and `assert_isolated` do, has
only the graph to go by.

## Why is this bad?

It is a gap in what was checked, not a fault in the program. A reentrant checkpoint records one node
in the place of a whole block and shows none of the block's parameters: the graph looks isolated
while backward fills them all. A compiled region does the opposite and shows every parameter it was
given, whether or not the loss depends on it. To read either as a verdict would be to guess.

It is harmless if the same loop also runs under a `Guard`, or if a test checks `.grad` after
backward.

## Example

```python
import torch
from torch.utils.checkpoint import checkpoint

import gradguard

encoder, head = torch.nn.Linear(4, 4), torch.nn.Linear(4, 1)
x = torch.randn(8, 4, requires_grad=True)
features = checkpoint(encoder, x, use_reentrant=True)  # one opaque node
loss = head(features).square().mean()
matrix = gradguard.flow({"loss": loss}, {"encoder": encoder, "head": head})
findings = matrix.check({"loss": ["encoder", "head"]})
```

## Use instead

```python
import torch
from torch.utils.checkpoint import checkpoint

import gradguard

encoder, head = torch.nn.Linear(4, 4), torch.nn.Linear(4, 1)
x = torch.randn(8, 4)
features = checkpoint(encoder, x, use_reentrant=False)  # its graph is an ordinary one
loss = head(features).square().mean()
matrix = gradguard.flow({"loss": loss}, {"encoder": encoder, "head": head})
findings = matrix.check({"loss": ["encoder", "head"]})
```

## Fix safety

`use_reentrant=False` is what PyTorch recommends, and gives the same gradients. Outside gradguard it
also lifts limits: inputs need not require gradient, and `torch.autograd.grad` and the argument
`inputs` of backward work. To see a compiled region, check the model before it is compiled; that
needs no change to the training program.

## References

- Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016: recomputing activations in
  the backward pass.
- PyTorch documentation: "torch.utils.checkpoint" (argument `use_reentrant`), "Extending PyTorch"
  (custom functions), "torch.compile".
"""

from __future__ import annotations

from gradguard.core.codes import Code
from gradguard.core.findings import Severity

CODE = Code(
    code="GG903",
    name="unknown-reach",
    severity=Severity.INFO,
    on_by_default=True,
    halves=("runtime",),
    module=__name__,
)

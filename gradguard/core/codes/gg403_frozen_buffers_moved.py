"""A model that was to be held fixed has changed its buffers.

## What it does

Reports, at the end of `with gradguard.frozen(model)`, a buffer of the model that is not what it
was at the start. Buffers are the state that is no parameter: the running mean and variance of
batch normalisation, the power iteration of spectral norm, counters, codebooks kept as averages.

## Why is this bad?

`requires_grad_(False)` and `no_grad` concern gradients, and buffers change without any. A frozen
network in train mode updates its BatchNorm statistics at every forward pass, under `no_grad` too.
Its weights are the same bit for bit, its output is not: a frozen backbone drifts to the statistics
of the new data, a teacher answers the same image differently every time, and a critic that the
generator's step only passes through takes one more batch of fakes into its averages.

In train mode the output also depends on what else is in the batch, so that a distillation target
belongs to the batch rather than to the sample.

It is harmless where adapting the statistics is the point, as in some kinds of domain adaptation,
and for buffers that take no part in the output, such as `num_batches_tracked`, the counter of
batches, where `momentum` is a number. Change those outside the block.

## Example

```python
import torch

import gradguard

teacher = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
student = torch.nn.Linear(4, 4)
x = torch.randn(8, 4)
with gradguard.frozen(teacher):
    with torch.no_grad():
        target = teacher(x)  # train mode: moves the running statistics
    distillation_loss = (student(x) - target).square().mean()
    distillation_loss.backward()
```

## Use instead

```python
import torch

import gradguard

teacher = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
student = torch.nn.Linear(4, 4)
x = torch.randn(8, 4)
teacher.eval()
with gradguard.frozen(teacher):
    with torch.no_grad():
        target = teacher(x)
    distillation_loss = (student(x) - target).square().mean()
    distillation_loss.backward()
```

`train()` on a parent sets every child back to train mode, at the start of each epoch in many
loops. Override `train` in the parent, or call `teacher.eval()` after it.

## Fix safety

`eval()` changes the model's output: it uses the running statistics instead of those of the batch,
and switches dropout off. For a model that has run with batch statistics so far, check that its
running statistics are any good before relying on them.

## References

- Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal
  Covariate Shift", ICML 2015: inference uses fixed statistics.
- Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018: the
  estimate of the largest singular vector moves with every training forward pass.
- PyTorch documentation: "torch.nn.BatchNorm1d" (argument `track_running_stats`),
  "torch.nn.Module.eval", "Autograd mechanics" (section on evaluation mode).
"""

from __future__ import annotations

from gradguard.core.codes import Code
from gradguard.core.findings import Severity

CODE = Code(
    code="GG403",
    name="frozen-buffers-moved",
    severity=Severity.ERROR,
    on_by_default=True,
    halves=("runtime",),
    module=__name__,
)

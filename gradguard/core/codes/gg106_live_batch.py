"""Stored data still carries the graph that it was computed by.

## What it does

Reports a loss that sets stored data against a fresh output of the same model, where what was stored
carries a graph: log-probabilities of a rollout, values, features in a queue, put into a list or a
memory as the model made them.

## Why is this bad?

What is stored is meant as a constant: the probability that the old policy gave to an action, the
value that was believed then. With its graph it is not. The loss is differentiated through both
sides, with opposite signs: right after the rollout the gradients of `new - old` cancel to nothing,
and the policy does not move. Later the old side pulls against the new one. Nothing fails, unless
the stored graph is used twice or a step has changed it, which PyTorch refuses.

The graph also holds on to every activation of the rollout for as long as the data is kept.

Storing a graph is right where the loss is computed from what was stored and from nothing else, such
as the log-probabilities of REINFORCE. That is not reported.

## Example

```python
import torch

policy = torch.nn.Linear(4, 3)
optimizer = torch.optim.Adam(policy.parameters(), lr=1e-3)

for _ in range(10):
    states, old = torch.randn(8, 4), []
    for state in states:
        old.append(policy(state).log_softmax(-1)[0])
    returns = torch.randn(8)

    new = policy(states).log_softmax(-1)[:, 0]
    ratio = (new - torch.stack(old)).exp()
    loss = -(ratio * returns).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
```

## Use instead

```python
import torch

policy = torch.nn.Linear(4, 3)
optimizer = torch.optim.Adam(policy.parameters(), lr=1e-3)

for _ in range(10):
    states, old = torch.randn(8, 4), []
    with torch.no_grad():
        for state in states:
            old.append(policy(state).log_softmax(-1)[0])
    returns = torch.randn(8)

    new = policy(states).log_softmax(-1)[:, 0]
    ratio = (new - torch.stack(old)).exp()
    loss = -(ratio * returns).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
```

`.detach()` where the value is stored does the same, and leaves the output live for other uses.

## Fix safety

Detaching changes the gradient of the loss, as it should. Code that sums the stored tensors into a
loss of its own needs them live: detach only the copy that is kept for comparison.

## References

- Schulman, Wolski, Dhariwal, Radford and Klimov, "Proximal Policy Optimization Algorithms", 2017:
  the old policy in the ratio is fixed.
- PyTorch documentation: "torch.Tensor.detach", "torch.no_grad".
"""

from __future__ import annotations

from gradguard.core.codes import Code
from gradguard.core.findings import Severity

CODE = Code(
    code="GG106",
    name="live-batch",
    severity=Severity.WARNING,
    on_by_default=True,
    halves=("lint",),
    module=__name__,
)

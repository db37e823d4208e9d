"""A regression target is computed by the model it trains, and carries gradient.

## What it does

Reports a loss that compares a model's output with a target that the same model helped to make, with
gradient going into both: a temporal-difference error whose bootstrapped value is not detached, a
self-distillation loss, a consistency loss between two views. Where the target comes from another
model, the same mistake is GG101, and GG104 for a target network.

## Why is this bad?

The loss has two ways down: move the prediction to the target, or the target to the prediction. For
a temporal-difference error the second moves value *forward* in time, from a state to the one after
it, which is not what the recursion means. The residual gradient that results converges slowly,
and for sampled transitions to the wrong values. In self-distillation both sides meet at a constant:
the representation collapses, with a loss curve that looks excellent.

It is harmless where the method says so: residual-gradient algorithms, and symmetric losses with a
term against collapse.

## Example

```python
import torch

critic = torch.nn.Linear(4, 1)
optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
for _ in range(3):
    observations, next_observations = torch.randn(8, 4), torch.randn(8, 4)
    rewards = torch.randn(8, 1)
    target = rewards + 0.99 * critic(next_observations)  # carries gradient
    value_loss = (critic(observations) - target).square().mean()
    optimizer.zero_grad()
    value_loss.backward()
    optimizer.step()
```

## Use instead

```python
import torch

critic = torch.nn.Linear(4, 1)
optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
for _ in range(3):
    observations, next_observations = torch.randn(8, 4), torch.randn(8, 4)
    rewards = torch.randn(8, 1)
    with torch.no_grad():
        target = rewards + 0.99 * critic(next_observations)
    value_loss = (critic(observations) - target).square().mean()
    optimizer.zero_grad()
    value_loss.backward()
    optimizer.step()
```

## Fix safety

The value of the loss stays the same and its gradient changes, which is the purpose. Under `no_grad`
the forward pass of the target also keeps no activations, so the step needs less memory.

`gradguard lint --fix --unsafe-fixes` detaches the bootstrap value, where nothing else loses
gradient by it.

## References

- Baird, "Residual Algorithms: Reinforcement Learning with Function Approximation", ICML 1995: what
  the gradient through the target does.
- Sutton and Barto, "Reinforcement Learning: An Introduction", 2nd edition 2018, chapters 9 and 11:
  semi-gradient methods.
- Chen and He, "Exploring Simple Siamese Representation Learning", CVPR 2021: without the
  stop-gradient the representation collapses.
"""

from __future__ import annotations

from gradguard.core.codes import Code
from gradguard.core.findings import Severity

CODE = Code(
    code="GG107",
    name="live-bootstrap-target",
    severity=Severity.ERROR,
    on_by_default=True,
    halves=("lint",),
    module=__name__,
)

"""Stored data still carries the graph it was made with.

## What it does

Reports a tensor that is put into a buffer, a rollout or a list while it carries gradient, and that
comes back into a loss later, beside or after updates of the model that made it.

## Why is this bad?

What is stored is meant as data: what the policy did, how likely it found that, what the encoder
saw. With its graph it is something else.

- The loss differentiates through the past. The ratio of new to old probabilities, where the old
  ones are alive, has gradient zero at the first update: both sides move alike, and nothing is
  learned.
- A second use of the same entry raises "Trying to backward through the graph a second time", and
  adding `retain_graph=True`, as that message suggests, only hides the mistake.
- Every entry keeps all activations that led to it: memory grows with the buffer.

It is harmless where the graph through time is the point, as in truncated backpropagation, and is
cut at the end of each window.

## Example

```python
import torch
from torch.distributions import Categorical

policy = torch.nn.Linear(4, 2)
optimizer = torch.optim.Adam(policy.parameters(), lr=1e-3)
for _ in range(3):
    observations, actions, old_log_probs = [], [], []
    for _ in range(8):
        observation = torch.randn(4)
        distribution = Categorical(logits=policy(observation))
        action = distribution.sample()
        observations.append(observation)
        actions.append(action)
        old_log_probs.append(distribution.log_prob(action))  # stored with its graph

    new = Categorical(logits=policy(torch.stack(observations)))
    ratio = (new.log_prob(torch.stack(actions)) - torch.stack(old_log_probs)).exp()
    policy_loss = -(ratio * torch.randn(8)).mean()
    optimizer.zero_grad()
    policy_loss.backward()  # the two halves of the ratio cancel
    optimizer.step()
```

## Use instead

```python
import torch
from torch.distributions import Categorical

policy = torch.nn.Linear(4, 2)
optimizer = torch.optim.Adam(policy.parameters(), lr=1e-3)
for _ in range(3):
    observations, actions, old_log_probs = [], [], []
    with torch.no_grad():
        for _ in range(8):
            observation = torch.randn(4)
            distribution = Categorical(logits=policy(observation))
            action = distribution.sample()
            observations.append(observation)
            actions.append(action)
            old_log_probs.append(distribution.log_prob(action))

    new = Categorical(logits=policy(torch.stack(observations)))
    ratio = (new.log_prob(torch.stack(actions)) - torch.stack(old_log_probs)).exp()
    policy_loss = -(ratio * torch.randn(8)).mean()
    optimizer.zero_grad()
    policy_loss.backward()
    optimizer.step()
```

Where part of the collection needs gradient, detach at the place where the entry is stored.

## Fix safety

Collecting under `no_grad` changes no value that is stored. Layers that behave differently in train
mode, such as dropout, go on doing so: `no_grad` is not `eval()`.

## References

- Schulman et al., "Proximal Policy Optimization Algorithms", 2017: the old probabilities are those
  of the policy that collected the data, fixed during the update.
- PyTorch documentation: "torch.no_grad", "Autograd mechanics" (section on locally disabling
  gradient computation).
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

"""A freeze for the sake of one loss is never taken back, and its model stops learning.

## What it does

Reports a model that is frozen inside the training loop, unconditionally, and released nowhere,
while its optimizer goes on stepping it. Its own loss trains it until the freeze is met for the
first time, and never again.

## Why is this bad?

Freezing the critic while the actor's loss passes through it is a good habit: it saves the work of
gradients that nobody wants. The freeze belongs to that one loss. A helper that releases one of two
critics, an early `continue` before the release, or a context manager that forgets to restore what
it has found, leaves the flag as it is. From then on the model's own loss computes a graph without
it. Nothing fails: the optimizer skips parameters without a gradient, and the loss stays where it
was.

It is harmless where the model is to stay as it is from some moment on. Say so with a condition, and
leave it out of the optimizer from there.

## Example

```python
import torch

actor, first, second = torch.nn.Linear(4, 2), torch.nn.Linear(6, 1), torch.nn.Linear(6, 1)
actor_opt = torch.optim.Adam(actor.parameters(), lr=1e-3)
critic_opt = torch.optim.Adam([*first.parameters(), *second.parameters()], lr=1e-3)

for _ in range(10):
    state, action, target = torch.randn(8, 4), torch.randn(8, 2), torch.randn(8, 1)
    pair = torch.cat([state, action], 1)
    critic_opt.zero_grad()
    critic_loss = (first(pair) - target).square().mean() + (second(pair) - target).square().mean()
    critic_loss.backward()
    critic_opt.step()

    first.requires_grad_(False)
    second.requires_grad_(False)
    actor_opt.zero_grad()
    pair = torch.cat([state, actor(state)], 1)
    actor_loss = -torch.minimum(first(pair), second(pair)).mean()
    actor_loss.backward()
    actor_opt.step()
    first.requires_grad_(True)
```

## Use instead

```python
import torch

actor, first, second = torch.nn.Linear(4, 2), torch.nn.Linear(6, 1), torch.nn.Linear(6, 1)
actor_opt = torch.optim.Adam(actor.parameters(), lr=1e-3)
critic_opt = torch.optim.Adam([*first.parameters(), *second.parameters()], lr=1e-3)

for _ in range(10):
    state, action, target = torch.randn(8, 4), torch.randn(8, 2), torch.randn(8, 1)
    pair = torch.cat([state, action], 1)
    critic_opt.zero_grad()
    critic_loss = (first(pair) - target).square().mean() + (second(pair) - target).square().mean()
    critic_loss.backward()
    critic_opt.step()

    first.requires_grad_(False)
    second.requires_grad_(False)
    actor_opt.zero_grad()
    pair = torch.cat([state, actor(state)], 1)
    actor_loss = -torch.minimum(first(pair), second(pair)).mean()
    actor_loss.backward()
    actor_opt.step()
    first.requires_grad_(True)
    second.requires_grad_(True)
```

`with gradguard.frozen(first, second):` around the actor's part does both, and restores every
parameter's own flag.

## Fix safety

Releasing the model changes the training: it learns again. A model of which some parameters were
frozen from the beginning must not be released as a whole: restore each parameter's own flag.

## References

- Fujimoto, van Hoof and Meger, "Addressing Function Approximation Error in Actor-Critic Methods",
  ICML 2018: the critics go on learning while the actor's loss passes through them.
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
    halves=("lint",),
    module=__name__,
)

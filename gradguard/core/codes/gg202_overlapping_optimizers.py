"""Two optimizers hold the same parameter, and both step it.

## What it does

Reports a parameter that is in two optimizers which both step it within one round of the loop. An
optimizer that replaces an earlier one is not reported.

## Why is this bad?

Each optimizer believes it is alone. The parameter moves twice for one gradient, by two learning
rates, under two sets of moments of which neither has seen what the other did. Weight decay is
applied twice. If each optimizer has its own loss, clearing one also throws away what the other has
not consumed yet, depending on the order of the lines.

It happens most often where two heads share an encoder, and each head's optimizer was given
`model.parameters()` of something that contains it.

It is harmless where the two never step in the same phase, as in alternating schemes that reset
their optimizers.

## Example

```python
import torch

encoder = torch.nn.Linear(4, 4)
actor, critic = torch.nn.Linear(4, 2), torch.nn.Linear(4, 1)
actor_opt = torch.optim.Adam([*encoder.parameters(), *actor.parameters()], lr=1e-3)
critic_opt = torch.optim.Adam([*encoder.parameters(), *critic.parameters()], lr=1e-3)
for _ in range(3):
    features = encoder(torch.randn(8, 4))
    loss = actor(features).square().mean() + critic(features).square().mean()
    actor_opt.zero_grad()
    critic_opt.zero_grad()
    loss.backward()
    actor_opt.step()
    critic_opt.step()  # the encoder moves a second time
```

## Use instead

```python
import torch

encoder = torch.nn.Linear(4, 4)
actor, critic = torch.nn.Linear(4, 2), torch.nn.Linear(4, 1)
actor_opt = torch.optim.Adam(actor.parameters(), lr=1e-3)
critic_opt = torch.optim.Adam([*encoder.parameters(), *critic.parameters()], lr=1e-3)
for _ in range(3):
    features = encoder(torch.randn(8, 4))
    loss = actor(features).square().mean() + critic(features).square().mean()
    actor_opt.zero_grad()
    critic_opt.zero_grad()
    loss.backward()
    actor_opt.step()
    critic_opt.step()
```

Decide which optimizer owns the shared part, or give it one of its own.

## Fix safety

The shared part now moves once per round, so about half as far: its learning rate may have to go up.
The optimizer that lost it changes the layout of its `state_dict`, so that older checkpoints of it
no longer load.

## References

- Yarats et al., "Improving Sample Efficiency in Model-Free Reinforcement Learning from Images",
  AAAI 2021: the critic's optimizer owns the shared encoder.
- PyTorch documentation: "torch.optim" (section on per-parameter options).
"""

from __future__ import annotations

from gradguard.core.codes import Code
from gradguard.core.findings import Severity

CODE = Code(
    code="GG202",
    name="overlapping-optimizers",
    severity=Severity.WARNING,
    on_by_default=True,
    halves=("runtime", "lint"),
    module=__name__,
)

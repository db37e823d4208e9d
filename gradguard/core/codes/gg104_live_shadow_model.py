"""A loss puts gradient into a target, teacher or other shadow model, which nothing trains.

## What it does

Reports a loss that reaches a *shadow model* over a dead end. A shadow model is one that no
optimizer holds and whose values come from another model, by copying or averaging: the target
network of a Q-learner, the momentum teacher of self-supervised training, a frozen reference
policy. Its output is meant to be a constant for the loss, and here it is not.

## Why is this bad?

The loss and the gradient of the trained model are what they should be, since the shadow model has
parameters of its own. What goes wrong is around them:

- Backward runs through the shadow model and keeps its activations, up to half of the
  activation memory and a third of the time of a step.
- No optimizer holds the model, so no `zero_grad()` clears it: its `.grad` grows from step to step.
  `clip_grad_norm_(agent.parameters(), 1.0)` includes the shadow model, and as the norm grows, the
  trained model's gradient is scaled toward nothing. SGD then stands still; Adam, which divides by
  the gradient's own scale, hides it longer.
- The mistake is one edit away from an error. If an optimizer is later built from
  `agent.parameters()`, it trains the target with the loss it is the target of, and the loss can
  go down by moving the goal (GG103).

If the parameters are *shared* rather than copied (`target = online`), there is no shadow model at
all, and the loss trains its own target. By default that is allowed, as the parameters also belong
to a model that the loss may train; with `never("target")` in the policy it is an error (GG103).

It is harmless, apart from the wasted work, if nothing ever reads the shadow model's `.grad`.

## Example

```python
import copy

import torch

import gradguard

online = torch.nn.Linear(4, 3)
target = copy.deepcopy(online)
optimizer = torch.optim.Adam(online.parameters(), lr=1e-3)
guard = gradguard.Guard(
    {"online": online, "target": target}, {"td_loss": "online"}, on_violation="record"
)
observation, following = torch.randn(8, 4), torch.randn(8, 4)
reward, action = torch.randn(8), torch.randint(3, (8, 1))
with guard:
    bootstrap = reward + 0.99 * target(following).amax(dim=1)
    value = online(observation).gather(1, action).squeeze(1)
    td_loss = (value - bootstrap).square().mean()
    optimizer.zero_grad()
    td_loss.backward()
    optimizer.step()
```

## Use instead

```python
import copy

import torch

import gradguard

online = torch.nn.Linear(4, 3)
target = copy.deepcopy(online)
optimizer = torch.optim.Adam(online.parameters(), lr=1e-3)
guard = gradguard.Guard(
    {"online": online, "target": target}, {"td_loss": "online"}, on_violation="record"
)
observation, following = torch.randn(8, 4), torch.randn(8, 4)
reward, action = torch.randn(8), torch.randint(3, (8, 1))
with guard:
    with torch.no_grad():
        bootstrap = reward + 0.99 * target(following).amax(dim=1)
    value = online(observation).gather(1, action).squeeze(1)
    td_loss = (value - bootstrap).square().mean()
    optimizer.zero_grad()
    td_loss.backward()
    optimizer.step()
```

`target.requires_grad_(False)` right after the copy does the same for every call, and says at the
place where the model is made what it is for.

## Fix safety

`no_grad` around the shadow model's call changes no value and no gradient of the trained model.
Everything inside the block stops carrying gradient: a call of the trained model that was moved
into it, as the action choice of double Q-learning may be, is cut as well. Where the loss has to
go *through* the shadow model to a trained one, use `requires_grad_(False)` and not `no_grad`.

`gradguard lint --fix` puts a `detach()` behind the shadow model's output, where every loss goes on
to reach what it reached, save for the shadow model. It still runs the forward pass with gradient;
`no_grad` around it saves the memory, too.

## References

- Mnih et al., "Human-level control through deep reinforcement learning", Nature 518, 2015: the
  target network, held fixed between updates.
- Lillicrap et al., "Continuous control with deep reinforcement learning", ICLR 2016: targets that
  follow slowly.
- Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020: the loss is minimised with respect to
  the online network only.
- Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017.
- PyTorch documentation: "torch.no_grad", "torch.nn.Module.requires_grad_",
  "torch.nn.utils.clip_grad_norm_".
"""

from __future__ import annotations

from gradguard.core.codes import Code
from gradguard.core.findings import Severity

CODE = Code(
    code="GG104",
    name="live-shadow-model",
    severity=Severity.WARNING,
    on_by_default=True,
    halves=("runtime", "lint"),
    module=__name__,
)

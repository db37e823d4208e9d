"""A score-function term is weighted by a value that carries gradient.

## What it does

Reports a policy-gradient term, a log-probability times a weight, whose weight still hangs on the
graph of the network that computed it: an advantage, a baseline, a normalised return. It is reported
only where reach cannot tell, because one loss or one optimizer is meant for policy and value
network alike. Where each has its own, the same mistake is a leak and carries the code GG101 or
GG103.

## Why is this bad?

The score-function estimator treats the weight as a number: how good was this action. If the weight
is differentiable, the loss can also be lowered by moving the weight. The value network is then told
to estimate high where the action is likely, whatever the return was, on top of the regression that
it is meant to learn. Both terms go into one `.grad`, so nothing looks wrong: the value loss is a
little higher than it should be, the advantages are biased, and the policy learns from them.

It is harmless where the weight is meant to be differentiated, as in a pathwise estimator. That is
then no score-function term.

## Example

```python
import torch
from torch.distributions import Categorical

actor, critic = torch.nn.Linear(4, 2), torch.nn.Linear(4, 1)
optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=1e-3)
for _ in range(3):
    observations, returns = torch.randn(8, 4), torch.randn(8)
    policy = Categorical(logits=actor(observations))
    actions = policy.sample()
    values = critic(observations).squeeze(-1)

    advantages = returns - values  # carries the critic's gradient
    policy_loss = -(policy.log_prob(actions) * advantages).mean()
    value_loss = (returns - values).square().mean()
    loss = policy_loss + 0.5 * value_loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
```

## Use instead

```python
import torch
from torch.distributions import Categorical

actor, critic = torch.nn.Linear(4, 2), torch.nn.Linear(4, 1)
optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=1e-3)
for _ in range(3):
    observations, returns = torch.randn(8, 4), torch.randn(8)
    policy = Categorical(logits=actor(observations))
    actions = policy.sample()
    values = critic(observations).squeeze(-1)

    advantages = (returns - values).detach()
    policy_loss = -(policy.log_prob(actions) * advantages).mean()
    value_loss = (returns - values).square().mean()
    loss = policy_loss + 0.5 * value_loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
```

Detach the advantage, not `values`: the value loss needs those alive.

## Fix safety

`detach()` changes no value of the loss, and removes from the value network's gradient the part that
the policy term put there. A shared encoder loses that part too. Weights of the two terms that were
tuned with the mistake in place may want tuning again.

`gradguard lint --fix --unsafe-fixes` detaches the weight, where nothing else loses gradient by it.

## References

- Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement
  learning", Machine Learning 1992: the baseline is no function of what is differentiated.
- Mnih et al., "Asynchronous Methods for Deep Reinforcement Learning", ICML 2016: the advantage in
  the policy term is a constant.
- PyTorch documentation: "torch.distributions" (section on the score function).
"""

from __future__ import annotations

from gradguard.core.codes import Code
from gradguard.core.findings import Severity

CODE = Code(
    code="GG105",
    name="live-advantage",
    severity=Severity.ERROR,
    on_by_default=True,
    halves=("lint",),
    module=__name__,
)

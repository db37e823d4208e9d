"""A comment silences nothing, or cannot be understood.

## What it does

Reports a comment `# gradguard: ignore[...]` on whose statement nothing was found that it could
silence, part by part where it names several codes, and a comment that looks like one but is none: a
bracket that does not close, a code that does not exist, a misspelt word.

Only codes that were looked for count. A comment for a code that is switched off, or that only a
live run can report, is left alone.

## Why is this bad?

A comment that silences nothing is a statement about the program that is no longer true. Either the
cause was repaired and the comment remained, ready to silence the next finding on that line; or it
never worked, and its author believes otherwise.

It is harmless where the finding depends on something outside the file. Name this code beside the
other then, `# gradguard: ignore[GG101, GG901] reason`, or switch it off in the settings.

## Example

```python
import torch

model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
loss = model(torch.randn(8, 4)).square().mean()
optimizer.zero_grad()
loss.backward()  # gradguard: ignore[GG101] the encoder is trained on purpose
optimizer.step()
```

## Use instead

```python
import torch

model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
loss = model(torch.randn(8, 4)).square().mean()
optimizer.zero_grad()
loss.backward()
optimizer.step()
```

## Fix safety

Removing a comment changes no behaviour of the program. A comment that serves a live run only,
because `gradguard run` sees something there that the source does not show, will be missed there.

## References

- gradguard documentation: "Suppressing a finding", in docs/lint.md.
"""

from __future__ import annotations

from gradguard.core.codes import Code
from gradguard.core.findings import Severity

CODE = Code(
    code="GG901",
    name="unused-suppression",
    severity=Severity.WARNING,
    on_by_default=True,
    halves=("lint",),
    module=__name__,
)

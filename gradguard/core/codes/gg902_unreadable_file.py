"""A file could not be checked.

## What it does

Reports a file that cannot be opened, is not encoded as it says, is not valid Python, or takes
longer than the time set for one file. The other files are checked all the same. It is reported
whichever codes were selected, unless it is ignored by name, so that "nothing found" always means
that everything was looked at.

## Why is this bad?

It is a gap in what was checked. A file that Python cannot read will not run either; a file that
only this tool cannot read may hold a mistake that nobody is told about.

It is harmless for templates and fixtures that are no Python despite their name. Leave them out by
`exclude`, or by `per-file-ignores`.

## Example

```text
loss = critic(fake.detach()
loss.backward()
```

## Use instead

```text
loss = critic(fake.detach())
loss.backward()
```

## Fix safety

There is no fix by the tool. For a file that takes too long, splitting very long functions helps
most.

## References

- Python documentation: "Lexical analysis" (section on encoding declarations).
"""

from __future__ import annotations

from gradguard.core.codes import Code
from gradguard.core.findings import Severity

CODE = Code(
    code="GG902",
    name="unreadable-file",
    severity=Severity.ERROR,
    on_by_default=True,
    halves=("lint",),
    module=__name__,
)

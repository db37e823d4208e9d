"""``gradguard lint --fix``: make the changes that findings come with, and nothing else."""

from __future__ import annotations

import ast
import difflib
import io
import os
import shutil
import tempfile
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gradguard.core.findings import Finding
from gradguard.core.fixes import Applicability, Fix, edited
from gradguard.lint import Source, Sources, lint_sources

__all__ = ["Fixed", "diff", "fix_files", "write_atomically"]

_MOST = 100
"""Changes to one file after which something must be wrong."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """A file that was changed.

    Attributes:
        path: The file.
        before: What it held.
        after: What it is to hold.
        encoding: How it is encoded.
        count: How many changes were made.
    """

    path: Path
    before: str
    after: str
    encoding: str
    count: int

    @property
    def content(self) -> bytes:
        """What it is to hold, encoded as it was."""
        return self.after.encode(self.encoding)


def fix_files(sources: Sources, findings: Sequence[Finding], *, unsafe: bool) -> Iterator[Fixed]:
    """Make changes to what files hold, one after the other, until there are none left to make.

    Args:
        sources: The files.
        findings: What was found in them, with fixes.
        unsafe: Whether to make changes after which the training gives other numbers.
    """
    concerned = {one.filename for one in findings if _applicable(one.fix, unsafe=unsafe)}
    for source in sources.files:
        if str(source.path) in concerned:
            fixed = _fixed(source, unsafe=unsafe)
            if fixed.count:
                yield fixed


def _applicable(fix: Fix | None, *, unsafe: bool) -> bool:
    return fix is not None and (unsafe or fix.applicability is Applicability.SAFE)


def _fixed(source: Source, *, unsafe: bool) -> Fixed:
    content = source.path.read_bytes() if source.content is None else source.content
    encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    before = text = content.decode(encoding)
    for count in range(_MOST):
        now = Sources(files=[replace(source, content=text.encode(encoding))])
        fix = next(
            (
                one.fix
                for one in lint_sources(now, jobs=1, fixes=True)
                if one.filename == str(source.path) and _applicable(one.fix, unsafe=unsafe)
            ),
            None,
        )
        changed = text if fix is None else edited(text, _with_line_ends(fix, text).edits)
        if changed == text or not _parses(changed):
            return Fixed(source.path, before, text, encoding, count)
        text = changed
    return Fixed(source.path, before, text, encoding, _MOST)


def _with_line_ends(fix: Fix, text: str) -> Fix:
    """Return a fix whose lines end as those of the file do."""
    end = "\r\n" if "\r\n" in text else "\n" if "\n" in text or "\r" not in text else "\r"
    edits = (replace(edit, content=edit.content.replace("\n", end)) for edit in fix.edits)
    return replace(fix, edits=tuple(edits))


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def write_atomically(path: Path, content: bytes) -> None:
    """Replace what a file holds, all of it or nothing; links keep leading to it.

    Raises:
        OSError: If it cannot be written.
    """
    real = path.resolve()
    if not os.access(real, os.W_OK):
        raise PermissionError(13, "Permission denied", str(path))
    handle, name = tempfile.mkstemp(prefix=f".{real.name}.", dir=real.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        shutil.copymode(real, name)
        Path(name).replace(real)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def diff(fixed: Fixed, shown: str) -> str:
    """Return the changes to a file as a unified diff."""
    lines = difflib.unified_diff(
        fixed.before.splitlines(keepends=True),
        fixed.after.splitlines(keepends=True),
        shown,
        shown,
    )
    return "".join(
        line if line.endswith(("\n", "\r")) else f"{line}\n\\ No newline at end of file\n"
        for line in lines
    )

"""Which file a finding names, in the form that other programs take."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

__all__ = ["is_file", "posix", "uri"]


def is_file(filename: str) -> bool:
    """Say whether a name is that of a file, not such as ``<stdin>``."""
    return bool(filename) and not (filename.startswith("<") and filename.endswith(">"))


def posix(filename: str, root: Path | None) -> tuple[str, bool]:
    """Return a path with slashes, and whether it is relative to ``root``.

    Args:
        filename: A path, taken from the current directory if it is relative.
        root: A folder; the current directory by default.
    """
    path = Path(filename)
    try:
        base = (root or Path.cwd()).resolve()
        absolute = path if path.is_absolute() else Path.cwd() / path
        for one in (absolute, absolute.resolve()):
            if one.is_relative_to(base) and ".." not in one.parts:
                return one.relative_to(base).as_posix(), True
        return absolute.as_posix(), False
    except (OSError, RuntimeError, ValueError):
        return path.as_posix(), not path.is_absolute()


def uri(filename: str, root: Path | None) -> tuple[str, bool]:
    """Return a path as a URI reference, and whether it is relative to ``root``."""
    path, inside = posix(filename, root)
    quoted = quote(path.encode("utf-8", "surrogateescape"), safe="/")
    if inside:
        # A colon in the first segment would read as a scheme; it is quoted with the rest.
        return quoted, True
    return f"file://{quoted if quoted.startswith('/') else '/' + quoted}", False

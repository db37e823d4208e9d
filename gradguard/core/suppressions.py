"""Comments that silence findings: ``# gradguard: ignore[GG101] reason``.

A comment covers the statement it stands behind, on whichever of its lines; alone on a line, it
covers the statement below. Of a statement with a body, such as ``with``, it covers the head.
"""

from __future__ import annotations

import difflib
import io
import linecache
import re
import tokenize
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache

from gradguard.core.codes import UnknownCode, catalogue, code
from gradguard.core.findings import Finding, Location, Place
from gradguard.core.selection import defaults, expand

__all__ = ["Suppression", "Suppressions", "unsilenced"]

_OWN = frozenset({"GG901", "GG902"})
"""Codes about comments and files: no comment silences them without naming them."""

_COMMENT = re.compile(r"#\s*gradguard:\s*(?P<text>[^#]*)", re.IGNORECASE)
_VERB = re.compile(r"(?P<verb>[\w-]*)\s*")
_CODE_FIRST = re.compile(r"[\s=:(,-]*(?P<word>[\w-]+)")
_VERBS_OF_OTHERS = ("allow", "disable", "noqa", "nosec", "off", "skip", "suppress")
_FORM = "write `# gradguard: ignore[GG101] reason`"
_EVERYTHING = "ALL"


@dataclass(frozen=True, slots=True)
class Suppression:
    """One comment that silences findings.

    Attributes:
        place: Where the comment is.
        rows: The first and last row of the statement that it covers.
        words: The codes, names and beginnings of codes in its brackets; ``ALL`` without brackets.
        reason: What the author wrote behind.
        mistakes: What is wrong with it, part by part; such a part silences nothing.
    """

    place: Place
    rows: tuple[int, int]
    words: tuple[str, ...] = ()
    reason: str = ""
    mistakes: tuple[str, ...] = ()

    def words_for(self, finding: Finding) -> list[str]:
        """Return the words that silence ``finding``; none if it is elsewhere."""
        first, last = self.rows
        row = finding.location.row
        if not (first <= row <= last or row == self.place.location.row):
            return []
        return [word for word in self.words if finding.code in _covered(word)]


@dataclass(frozen=True, slots=True)
class Suppressions:
    """The comments of one file that silence findings.

    Example:
        >>> text = "loss.backward()  # gradguard: ignore[GG101] the encoder is shared"
        >>> Suppressions.parse(text, "train.py").entries[0].reason
        'the encoder is shared'
    """

    entries: tuple[Suppression, ...] = ()

    @classmethod
    def parse(cls, text: str, filename: str) -> Suppressions:
        """Read the comments of a file.

        Args:
            text: The source. From where it cannot be tokenised on, it has no comments.
            filename: Where the source is from, as findings should say it.
        """
        if "gradguard:" not in text.lower():
            return cls()
        read = (
            _read(found["text"].strip(), _place(comment, found, filename), rows)
            for comment, rows in _comments(text)
            for found in _COMMENT.finditer(comment.string)
        )
        return cls(tuple(entry for entry in read if entry is not None))

    def keep(self, findings: Iterable[Finding]) -> list[Finding]:
        """Return the findings of this file that no comment silences, in their order."""
        return [
            finding
            for finding in findings
            if not any(entry.words_for(finding) for entry in self.entries)
        ]

    def unused(
        self, findings: Iterable[Finding], looked_for: Collection[str], half: str
    ) -> list[Finding]:
        """Return GG901 for each comment that silences nothing or cannot be understood.

        Args:
            findings: All findings of this file, silenced or not.
            looked_for: The codes that were looked for; whether the comment for another is of use
                cannot be known.
            half: The half that looked: ``lint`` or ``runtime``.
        """
        findings = list(findings)
        reports: list[Finding] = []
        for entry in self.entries:
            of_use = {word for finding in findings for word in entry.words_for(finding)}
            idle = [
                word
                for word in entry.words
                if word not in of_use and _expected(word, looked_for, half)
            ]
            reports += [_report(entry.place, mistake, _FORM) for mistake in entry.mistakes]
            if idle:
                reports.append(_report(entry.place, *_idle_sentence(entry, idle)))
        return self.keep(reports)


def unsilenced(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings that no comment in their files silences, in their order."""
    return [finding for finding in findings if _of_file(finding.filename).keep([finding])]


def _of_file(filename: str) -> Suppressions:
    try:
        return _parsed("".join(linecache.getlines(filename)), filename)
    except ValueError:  # A name that no file can have.
        return Suppressions()


@lru_cache(maxsize=64)
def _parsed(text: str, filename: str) -> Suppressions:
    return Suppressions.parse(text, filename)


@cache
def _covered(word: str) -> frozenset[str]:
    return expand(word) if expand(word) <= _OWN else expand(word) - _OWN


def _expected(word: str, looked_for: Collection[str], half: str) -> bool:
    """Say whether a comment with ``word`` would have been of use if it ever were in this run."""
    known = catalogue()
    concerned = {one for one in _covered(word) - _OWN if half in known[one].halves}
    if len(concerned) > 1:
        concerned &= defaults()
    return bool(concerned) and concerned <= set(looked_for)


def _comments(text: str) -> Iterator[tuple[tokenize.TokenInfo, tuple[int, int]]]:
    """Yield each comment with the rows of the statement that it covers."""
    above: list[tokenize.TokenInfo] = []
    inside: list[tokenize.TokenInfo] = []
    first = start = last = 0  # 0: no statement begun; `start` includes decorators
    decorator = False
    for token in _tokens(text):
        if token.type == tokenize.COMMENT:
            (inside if first else above).append(token)
        elif token.type == tokenize.NEWLINE and first:
            yield from ((comment, (first, last)) for comment in inside)
            if not decorator:
                yield from ((comment, (start, last)) for comment in above)
                above, start = [], 0
            inside, first = [], 0
        elif token.type not in _LAYOUT:
            if not first:
                first, decorator = token.start[0], token.string == "@"
                start = start or first
            last = token.end[0]
    yield from ((comment, (first, last)) for comment in inside)
    yield from ((comment, (start, last if start else 0)) for comment in above)


_LAYOUT = frozenset(
    {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
)


def _tokens(text: str) -> Iterator[tokenize.TokenInfo]:
    lines = io.StringIO(text, newline=None)
    try:
        yield from tokenize.generate_tokens(lines.readline)
    except (tokenize.TokenError, SyntaxError):
        return


def _read(text: str, place: Place, rows: tuple[int, int]) -> Suppression | None:
    """Read what follows ``gradguard:`` in a comment; ``None`` if it is prose."""
    found = _VERB.match(text)
    verb, rest = (found["verb"].lower(), text[found.end() :]) if found else ("", text)
    shown = f"`# gradguard: {text}`"
    if verb != "ignore":
        meant = verb in _VERBS_OF_OTHERS or difflib.get_close_matches(verb, ["ignore"], cutoff=0.7)
        if not meant or not (not rest or rest[0] in "[(=" or _names_a_code(rest)):
            return None
        return Suppression(place, rows, mistakes=(f"{shown} silences nothing",))
    if not rest.startswith("["):
        if _names_a_code(rest):
            mistake = f"{shown} silences nothing: codes belong in brackets"
            return Suppression(place, rows, mistakes=(mistake,))
        return Suppression(place, rows, (_EVERYTHING,), rest.lstrip(" :,;-"))
    inside, closed, reason = rest[1:].partition("]")
    asked = [word.strip() for word in inside.split(",") if word.strip()]
    if not closed or not asked:
        why = "has no code in its brackets" if closed else "lacks its closing bracket"
        return Suppression(place, rows, mistakes=(f"{shown} silences nothing: it {why}",))
    words, mistakes = [], []
    for word in asked:
        try:
            expand(word)
        except UnknownCode as error:
            mistakes.append(f"{shown}: {error}")
        else:
            words.append(word)
    return Suppression(place, rows, tuple(words), reason.lstrip(" :,;-"), tuple(mistakes))


def _names_a_code(text: str) -> bool:
    found = _CODE_FIRST.match(text)
    if found is None:
        return False
    word = found["word"].lower().replace("_", "-")
    return bool(re.match(r"gg\d", word)) or word in {one.name for one in catalogue().values()}


def _place(comment: tokenize.TokenInfo, found: re.Match[str], filename: str) -> Place:
    row, column = comment.start
    end = column + len(comment.string[: found.end()].rstrip())
    return Place(filename, Location(row, column + found.start() + 1), Location(row, end + 1))


def _idle_sentence(entry: Suppression, idle: list[str]) -> tuple[str, str]:
    shown = ", ".join(f"`{word}`" for word in idle)
    of = "" if idle == [_EVERYTHING] else f" of {shown}"
    message = f"suppression{of} silences nothing here"
    if len(idle) < len(entry.words) or entry.mistakes:
        return message, f"take {shown} out of the brackets"
    return message, "remove the comment"


def _report(place: Place, message: str, remedy: str) -> Finding:
    entry = code("GG901")
    return Finding(entry.code, entry.name, entry.severity, message, place, help=remedy)

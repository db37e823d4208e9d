"""Comments that silence findings: what they cover, and what becomes of those without use."""

from __future__ import annotations

import ast
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, strategies as st

from gradguard.core.codes import catalogue, code
from gradguard.core.findings import Finding, Location, Place
from gradguard.core.selection import defaults
from gradguard.core.suppressions import Suppressions, unsilenced

NAME = "train.py"
ALL = set(catalogue()) - {"GG901", "GG902"}


def found(row: int, wanted: str = "GG101", column: int = 1) -> Finding:
    """Return a finding in the file that is read."""
    entry = code(wanted)
    place = Place(NAME, Location(row, column))
    return Finding(entry.code, entry.name, entry.severity, "something", place)


def read(text: str) -> Suppressions:
    """Read the comments of a file, written indented as a block."""
    return Suppressions.parse(textwrap.dedent(text).lstrip("\n"), NAME)


def silenced(text: str, wanted: str = "GG101") -> list[int]:
    """Return the rows of ``text`` on which a finding is silenced."""
    rows = textwrap.dedent(text).lstrip("\n").count("\n") + 1
    comments = read(text)
    return [row for row in range(1, rows + 1) if not comments.keep([found(row, wanted)])]


def unused(text: str, *findings: Finding, looked_for: frozenset[str] | None = None) -> list[str]:
    """Return what the linter says of the comments in ``text``."""
    reports = read(text).unused(findings, defaults() if looked_for is None else looked_for, "lint")
    assert all((one.code, one.filename) == ("GG901", NAME) for one in reports)
    return [one.message for one in reports]


NO_SUCH_CODE = "unknown code `leaking-los`: did you mean GG101 (leaking-loss)?"


@pytest.mark.parametrize(
    ("comment", "codes"),
    [
        ("# gradguard: ignore[GG101]", {"GG101"}),
        ("# gradguard: ignore[GG101] the encoder is shared", {"GG101"}),
        ("#gradguard:ignore[gg101]", {"GG101"}),
        ("# GradGuard: Ignore[ GG101 , applied_leak ]: both are meant", {"GG101", "GG103"}),
        ("# gradguard: ignore[GG1]", {one for one in ALL if one.startswith("GG1")}),
        ("# gradguard: ignore", ALL),
        ("# gradguard: ignore the critic is trained here too", ALL),
        ("# noqa: E501  # gradguard: ignore[GG101]  # type: ignore", {"GG101"}),
        ("# gradguard: ignore[GG101] # gradguard: ignore[GG204]", {"GG101", "GG204"}),
        ("# gradguard: ignore[GG101, GG777]", {"GG101"}),
        ("# see gradguard: ignore[GG101]", set()),
        ("# gradguard: ignored[GG101]", set()),
        ("# gradguard: ignore-file[GG101]", set()),
        ("# gradguard: ignore[GG101", set()),
        ("# gradguard: ignore[]", set()),
        ("# gradguard: ignore GG101", set()),
        ("# gradguard: the guard sees this", set()),
    ],
)  # fmt: skip
def test_a_comment_silences_what_its_brackets_name(comment: str, codes: set[str]) -> None:
    """Codes, names and beginnings count in any case; without brackets every code is meant."""
    comments = read(f"loss.backward()  {comment}")
    assert {one for one in catalogue() if not comments.keep([found(1, one)])} == codes


def test_the_reason_is_what_stands_behind_the_brackets() -> None:
    """Signs that set the reason off do not belong to it."""
    reasons = [
        read(f"x()  # gradguard: ignore{rest}").entries[0].reason
        for rest in ("[GG101] as meant", "[GG101]: as meant", " - as meant", "[GG101]")
    ]
    assert reasons == ["as meant", "as meant", "as meant", ""]


def test_a_comment_covers_every_line_of_its_statement_and_no_other() -> None:
    """Behind whichever line of a statement it stands, the comment covers all of them."""
    for behind in range(2, 6):
        lines = ["before()", "loss = critic(", "    fake,", "    real,", ")", "after()"]
        lines[behind - 1] += "  # gradguard: ignore[GG101]"
        assert silenced("\n".join(lines)) == [2, 3, 4, 5]


def test_a_comment_on_its_own_covers_the_statement_below() -> None:
    """Blank lines, other comments and decorators in between do not part them."""
    text = """
        before()
        # gradguard: ignore[GG101] why
        # gradguard: ignore[GG204] why not
        # more about it

        loss = critic(
            fake,
        )
        after()
    """
    assert silenced(text) == [2, 6, 7, 8]
    assert silenced(text, "GG204") == [3, 6, 7, 8]
    text = """
        # gradguard: ignore[GG101]
        @decorated
        @twice(
            True,
        )
        def step(
            self,
        ):
            self.loss.backward()
    """
    assert silenced(text) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_of_a_statement_with_a_body_the_head_is_covered() -> None:
    """A comment at `with` or `for` says nothing about what happens inside."""
    text = """
        with torch.no_grad():  # gradguard: ignore[GG101]
            target = critic(x)
        # gradguard: ignore[GG101]
        for batch in (
            batches
        ):
            step(batch)
    """
    assert silenced(text) == [1, 3, 4, 5, 6]


def test_a_comment_inside_a_string_is_no_comment() -> None:
    """What looks like a comment in a docstring, or in an f-string, silences nothing."""
    text = '''
        """Write it so:

        # gradguard: ignore[GG101]
        """
        loss.backward()
        print(f"# gradguard: ignore[GG101] {loss}")
    '''
    assert silenced(text) == []


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_rows_are_counted_whatever_ends_a_line(ending: str) -> None:
    """Files from other systems have the rows that their editors show."""
    text = ending.join(["x = 1", "y = 2  # gradguard: ignore[GG101]", "z = 3"])
    comments = Suppressions.parse(text, NAME)
    assert [row for row in (1, 2, 3) if not comments.keep([found(row)])] == [2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x()  # gradguard: ignore[GG101]", "suppression of `GG101` silences nothing here"),
        ("x()  # gradguard: ignore", "suppression silences nothing here"),
        ("x()  # gradguard: ignore[GG2, leaking-loss]",
         "suppression of `GG2`, `leaking-loss` silences nothing here"),
        ("# gradguard: ignore[GG101]", "suppression of `GG101` silences nothing here"),
        ("x()  # gradguard: ignor[GG101]", "`# gradguard: ignor[GG101]` silences nothing"),
        ("x()  # gradguard: noqa", "`# gradguard: noqa` silences nothing"),
        ("x()  # gradguard: ignore-file", "`# gradguard: ignore-file` silences nothing"),
        ("x()  # gradguard: ignore[GG101",
         "`# gradguard: ignore[GG101` silences nothing: it lacks its closing bracket"),
        ("x()  # gradguard: ignore[ ]",
         "`# gradguard: ignore[ ]` silences nothing: it has no code in its brackets"),
        ("x()  # gradguard: ignore: leaking-loss",
         "`# gradguard: ignore: leaking-loss` silences nothing: codes belong in brackets"),
        ("x()  # gradguard: ignore[leaking-los]",
         f"`# gradguard: ignore[leaking-los]`: {NO_SUCH_CODE}"),
    ],
)  # fmt: skip
def test_a_comment_without_use_says_what_is_wrong_with_it(text: str, message: str) -> None:
    """Unused and misspelt comments are each reported once, in words that help."""
    assert unused(text) == [message]


def test_a_comment_of_use_is_not_reported() -> None:
    """A comment is of use if it silences something, on any row of its statement."""
    text = "loss = critic(\n    fake)  # gradguard: ignore[GG101]"
    assert unused(text, found(1)) == []
    assert unused(text, found(2)) == []
    assert unused(text, found(3)) == ["suppression of `GG101` silences nothing here"]
    assert unused("x()  # gradguard: ignore", found(1, "GG204")) == []


def test_each_part_of_a_comment_has_to_be_of_use() -> None:
    """Of several codes in one comment the idle ones are named, and only they."""
    text = "x()  # gradguard: ignore[GG101, GG204]"
    [report] = read(text).unused([found(1)], defaults(), "lint")
    assert report.message == "suppression of `GG204` silences nothing here"
    assert report.help == "take `GG204` out of the brackets"
    assert report.location == Location(1, 6)
    assert report.end_location == Location(1, len(text) + 1)


@pytest.mark.parametrize(
    ("words", "looked_for"),
    [
        ("GG204", {"GG101"}),
        ("GG1", {"GG101"}),
        ("GG102", set(defaults())),
        ("GG403", set(catalogue())),
        ("ALL", {"GG101"}),
        ("GG101, GG901", set(catalogue())),
    ],
)
def test_a_comment_that_could_not_have_been_of_use_is_left_alone(
    words: str, looked_for: set[str]
) -> None:
    """Codes that were not looked for, or only show in a live run, are not called unused."""
    text = f"x()  # gradguard: ignore[{words}]"
    assert unused(text, looked_for=frozenset(looked_for)) == []


def test_prose_that_mentions_the_tool_is_left_alone() -> None:
    """A comment that begins with the tool's name and goes on as a sentence is no mistake."""
    for prose in ("the guard sees this", "ignores nothing, so we detach", "see issue 3", ""):
        assert unused(f"x()  # gradguard: {prose}") == []


def test_findings_in_several_files_are_silenced_by_their_own_comments(tmp_path: Path) -> None:
    """The comments of each file are read where its findings point."""
    first, second = tmp_path / "first.py", tmp_path / "second.py"
    first.write_text("x()  # gradguard: ignore[GG101] meant\n", encoding="utf-8")
    second.write_text("x()\n", encoding="utf-8")
    findings = [
        replace(found(1), place=Place(str(path), Location(1, 1)))
        for path in (first, second, tmp_path / "gone.py")
    ]
    assert unsilenced(findings) == findings[1:]


STATEMENTS = st.sampled_from(
    [
        "x = 1",
        "x = f(\n    a,\n    b,\n)",
        's = """a\nb\n# c\n"""',
        "if a:\n    pass\nelse:\n    b = [\n        1,\n    ]",
        "@one\n@two(\n    3\n)\ndef f(\n    a,\n):\n    return a",
        "with a as b, \\\n        c:\n    d()",
        "for i in range(3): j()",
        "# a comment",
        "",
        "a; b; c",
        "class A:\n\n    x: int = 3\n\n    def f(self): ...",
    ]
)


def simple_rows(text: str) -> dict[int, set[int]]:
    """Map each row to the rows of the innermost simple statement on it, as Python sees them."""
    rows: dict[int, set[int]] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.stmt) and not hasattr(node, "body"):
            assert node.end_lineno is not None
            covered = set(range(node.lineno, node.end_lineno + 1))
            for row in covered:
                rows[row] = rows.get(row, set()) | covered
    return rows


@given(st.lists(STATEMENTS, min_size=1, max_size=6), st.data())
def test_a_comment_covers_what_python_takes_for_its_statement(
    statements: list[str], data: st.DataObject
) -> None:
    """Behind any statement of any program, the rows covered are those of the parser."""
    text = "\n".join(statements)
    candidates = simple_rows(text)
    commented = text.split("\n")
    possible = [row for row, rows in candidates.items() if row == max(rows)]
    if not possible:
        return
    row = data.draw(st.sampled_from(sorted(possible)))
    commented[row - 1] += "  # gradguard: ignore[GG101]"
    [entry] = Suppressions.parse("\n".join(commented), NAME).entries
    assert set(range(entry.rows[0], entry.rows[1] + 1)) >= candidates[row]
    outside = {other for other, rows in candidates.items() if not rows & candidates[row]}
    same_line = commented[row - 1].lstrip().startswith(("for", "def"))
    assert same_line or not outside & set(range(entry.rows[0], entry.rows[1] + 1))


@given(st.text(alphabet="abg()[]{}:\"'\\\n\r\t \0#,@é", max_size=80), st.integers(0, 80))
@example("(", 1)
@example("  x\n y ", 5)
@example("'''", 3)
def test_no_text_is_too_broken_to_be_read(text: str, position: int) -> None:
    """Whatever a file holds, its comments are read without an error and judged without one."""
    broken = f"{text[:position]}# gradguard: ignore[GG101]\n{text[position:]}"
    comments = Suppressions.parse(broken, NAME)
    comments.unused([found(1)], defaults(), "lint")


def test_what_stands_before_the_break_is_read_in_a_broken_file() -> None:
    """A file that ends in the middle of a bracket has the comments up to there."""
    text = "x()  # gradguard: ignore[GG101]\ny = (\n    1,  # gradguard: ignore[GG101]\n"
    comments = Suppressions.parse(text, NAME)
    assert comments.keep([found(1), found(2), found(3)]) == []

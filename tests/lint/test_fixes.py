"""What `gradguard lint --fix` changes, and what it leaves as it is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_support import CLEAN, LEAK, Linter, environment
from hypothesis import given, strategies as st

from gradguard.core.codes import catalogue
from gradguard.core.fixes import Edit, edited
from gradguard.core.places import Location
from gradguard.lint import Sources, lint_sources
from gradguard.lint.fixes import FIXABLE

APPLIED = """\
import torch

G, D = torch.nn.Linear(4, 2), torch.nn.Linear(2, 1)
opt_g = torch.optim.SGD(G.parameters(), lr=0.1)
opt_d = torch.optim.SGD(D.parameters(), lr=0.1)
for _ in range(3):
    opt_g.zero_grad()
    opt_d.zero_grad()
    fake = G(torch.randn(8, 4))
    d_loss = D(fake).mean() - D(torch.randn(8, 2)).mean()
    d_loss.backward(retain_graph=True)
    opt_d.step()
    g_loss = -D(fake * 2.0).mean()
    g_loss.backward()
    opt_g.step()
"""
"""The generator's optimizer applies the gradient of `d_loss`."""


def written(linter: Linter) -> bytes:
    """Return what the file holds."""
    return (linter.folder / "a.py").read_bytes()


def test_a_safe_fix_is_made_and_nothing_else_is_changed(linter: Linter) -> None:
    """One `detach()` is put in; then there is nothing left to report."""
    linter.write(a=LEAK)
    done = linter("--fix")
    assert (done.status, written(linter).decode()) == (0, CLEAN)
    assert done.complained == "fixed 1 finding in 1 file\n"
    assert linter("--fix").complained == ""


LAYOUTS = {
    "crlf": LEAK.replace("\n", "\r\n").encode(),
    "cr": LEAK.replace("\n", "\r").encode(),
    "tabs": LEAK.replace("    ", "\t").encode(),
    "bom": b"\xef\xbb\xbf" + LEAK.encode(),
    "cookie": ("# coding: latin-1\n# \xe9\xe8\n" + LEAK).encode("latin-1"),
    "no end": LEAK.rstrip("\n").encode(),
    "wide": LEAK.replace(
        "critic(fake).mean()", "('\U0001f600\xe9', critic(fake).mean())[1]"
    ).encode(),
    "form feed": LEAK.replace("for _", "\f\nfor _").encode(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_and_encoding_stay(layout: str, linter: Linter) -> None:
    """Every byte that is not part of the change is as it was."""
    content = LAYOUTS[layout]
    (linter.folder / "a.py").write_bytes(content)
    assert linter("--fix").status == 0
    assert written(linter) == content.replace(b"critic(fake)", b"critic(fake.detach())")


def test_a_diff_shows_the_change_and_makes_none(linter: Linter) -> None:
    """The exit status says whether there is anything to change, as Ruff's does."""
    linter.write(a=LEAK)
    done = linter("--diff")
    assert done.status == 1
    assert "+    critic_loss = critic(fake.detach()).mean()" in done.said
    assert written(linter).decode() == LEAK
    linter.write(a=CLEAN)
    assert (linter("--diff").status, linter("--diff").said) == (0, "")


def test_what_changes_the_training_is_asked_for(linter: Linter) -> None:
    """A fix after which a step applies something else is left to `--unsafe-fixes`."""
    linter.write(a=APPLIED)
    assert linter("--fix").status == 1
    assert written(linter).decode() == APPLIED
    assert linter("--fix", "--unsafe-fixes").status == 0
    assert "D(fake.detach())" in written(linter).decode()


def test_a_fix_has_the_keys_of_ruff(linter: Linter) -> None:
    """Editors that know Ruff's JSON know ours."""
    linter.write(a=LEAK)
    place = {"row": 8, "column": 30}
    assert linter.json().findings[0]["fix"] == {
        "applicability": "safe",
        "message": "Detach `fake`",
        "edits": [{"content": ".detach()", "location": place, "end_location": place}],
    }
    log = json.loads(linter("--output-format", "sarif").said)
    change = log["runs"][0]["results"][0]["fixes"][0]["artifactChanges"][0]
    assert change["replacements"][0]["insertedContent"] == {"text": ".detach()"}


def test_no_fix_takes_gradient_from_another_loss(linter: Linter) -> None:
    """Where the only place to cut serves a loss that needs it, nothing is offered."""
    shared = LEAK.replace(
        "critic_loss = critic(fake).mean() - critic(torch.randn(8, 2)).mean()",
        "score = critic(fake).mean()\n    critic_loss = score + 0.0",
    ).replace("-critic(generator(torch.randn(8, 4))).mean()", "-score")
    linter.write(a=shared)
    linter("--fix", "--unsafe-fixes")
    assert "fake.detach()" not in written(linter).decode()


def test_a_suppressed_finding_is_not_fixed(linter: Linter) -> None:
    """Whoever says that it is meant has the last word."""
    text = LEAK.replace("randn(8, 2)).mean()", "randn(8, 2)).mean()  # gradguard: ignore[GG101]")
    linter.write(a=text)
    assert (linter("--fix").status, written(linter).decode()) == (0, text)


def test_links_and_permissions_stay(linter: Linter) -> None:
    """A link goes on leading to the file, which keeps its mode; no other file is left behind."""
    linter.write(real=LEAK)
    (linter.folder / "real.py").chmod(0o640)
    (linter.folder / "a.py").symlink_to("real.py")
    assert linter("--fix", "a.py").status == 0
    assert (linter.folder / "a.py").is_symlink()
    assert (linter.folder / "real.py").read_text() == CLEAN
    assert (linter.folder / "real.py").stat().st_mode & 0o777 == 0o640
    assert {path.name for path in linter.folder.iterdir()} == {"a.py", "real.py"}


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="anyone may write here")
def test_a_file_that_may_not_be_written_is_an_error(linter: Linter) -> None:
    """The command says which file it is, and changes nothing."""
    linter.write(a=LEAK)
    (linter.folder / "a.py").chmod(0o440)
    done = linter("--fix")
    assert (done.status, written(linter).decode()) == (2, LEAK)
    assert "a.py cannot be written: Permission denied" in done.complained


def test_standard_input_is_given_back_changed(linter: Linter) -> None:
    """A filter writes the source, whole, and tells what is left beside it."""
    done = linter.process("--fix", "-", stdin=LEAK.encode())
    assert (done.status, done.said) == (0, CLEAN)
    assert linter.process("--fix", "-", stdin=b"x = (\n").said == "x = (\n"


def test_documented_examples_are_fixed(tmp_path: Path) -> None:
    """Where the example of a code has a fix, that makes the finding go away."""
    have = set()
    for code in sorted(FIXABLE):
        text = re.findall(r"```python\n(.*?)```", catalogue()[code].section("Example"), re.DOTALL)
        path = tmp_path / f"{code}.py"
        path.write_text(text[0], "utf-8")
        found = lint_sources(Sources.find([path]), jobs=1, fixes=True)
        for fix in [one.fix for one in found if one.code == code and one.fix is not None][:1]:
            have.add(code)
            path.write_text(edited(text[0], fix.edits), "utf-8")
            after = lint_sources(Sources.find([path]), jobs=1)
            assert code not in {one.code for one in after}, code
    assert have >= {"GG101", "GG103", "GG104", "GG107"}


def test_fixed_pairs_behave_when_they_run() -> None:
    """What `--fix` makes of wrong programs shows the right effect in a live process."""
    names = ["curl_key_encoder_flag", "gail_reward_keeps_graph", "biggan_repeated_critic_steps"]
    verify = Path(__file__).parent / "pairs" / "verify.py"
    command = [sys.executable, str(verify), "--fixed", *names]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert "3 of 3 pairs hold" in done.stdout, done.stdout + done.stderr


@given(st.text("ab\r\n\f\u2028\U0001f600", max_size=40), st.data())
def test_an_edit_changes_what_it_says(text: str, data: st.DataObject) -> None:
    """Rows end where Python ends them, and nothing but the stretch is replaced."""
    rows = re.split(r"\r\n|\r|\n", text)
    row = data.draw(st.integers(1, len(rows)))
    column = data.draw(st.integers(1, len(rows[row - 1]) + 1))
    place = Location(row, column)
    result = edited(text, [Edit("!", place, place)])
    assert result.replace("!", "", 1) == text
    assert re.split(r"\r\n|\r|\n", result)[row - 1][column - 1] == "!"

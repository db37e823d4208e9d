"""Settings: where they are found, what they say, and what is refused."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from gradguard.config import Config, ConfigError
from gradguard.core.codes import UnknownCode
from gradguard.core.findings import Confidence
from gradguard.core.selection import defaults, expand

FULL = """
[project]
name = "example"

[tool.gradguard]
select = ["GG1", "stale-gradient"]
ignore = ["GG105"]
exclude = ["vendor/", "*_pb2.py"]
min-confidence = "low"
src = ["src", "lib"]

[tool.gradguard.per-file-ignores]
"tests/**" = ["GG1"]
"legacy.py" = ["applied-leak"]

[tool.gradguard.policy]
critic_loss = "critic"
"self.losses['actor']" = { only = ["actor"], may = ["encoder"] }
"""


def settings(folder: Path, table: str) -> Config:
    """Return the settings of a project whose file has ``table`` below ``[tool.gradguard]``."""
    (folder / "pyproject.toml").write_text(f"[tool.gradguard]\n{table}\n", encoding="utf-8")
    return Config.find(folder)


def test_every_setting_is_read(tmp_path: Path) -> None:
    """A file that uses every setting gives each its meaning."""
    (tmp_path / "pyproject.toml").write_text(FULL, encoding="utf-8")
    config = Config.find(tmp_path)
    assert config.path == tmp_path / "pyproject.toml"
    assert config.codes == expand("GG1") - {"GG105"} | {"GG204", "GG902"}
    assert config.exclude == ("vendor/", "*_pb2.py")
    assert config.min_confidence is Confidence.LOW
    assert config.src == (tmp_path / "src", tmp_path / "lib")
    assert config.policy is not None
    assert config.policy.to_dict() == {
        "critic_loss": {"only": ["critic"]},
        "self.losses['actor']": {"only": ["actor"], "may": ["encoder"]},
    }


def test_without_settings_there_are_defaults(tmp_path: Path) -> None:
    """A project that does not speak of gradguard is linted with what is on by default."""
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'gradguard-user'\n", "utf-8")
    config = Config.find(tmp_path)
    assert (config.path, config.root, config.policy) == (None, tmp_path, None)
    assert config.codes == defaults()
    assert config.min_confidence is Confidence.MEDIUM


def test_the_nearest_file_that_speaks_of_gradguard_counts(tmp_path: Path) -> None:
    """Files without the table are passed over on the way up; tables are not merged."""
    inner = tmp_path / "packages" / "agent"
    (inner / "deep").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text("[tool.gradguard]\nselect = ['GG101']\n", "utf-8")
    (inner / "pyproject.toml").write_text("[tool.ruff]\nselect = ['E']\n", "utf-8")
    assert Config.find(inner / "deep").root == tmp_path
    (inner / "pyproject.toml").write_text("[tool.gradguard]\nignore = ['GG2']\n", "utf-8")
    assert Config.find(inner / "deep").codes == defaults() - expand("GG2")


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ("selct = ['GG1']", "has no setting `selct`; did you mean `select`?; there are exclude, "),
        ("extend-select = []", "has no setting `extend-select`"),
        ("select = 'GG1'", "`tool.gradguard.select`: a list of texts is needed, not 'GG1'"),
        ("select = [1]", "`tool.gradguard.select`: a list of texts is needed"),
        ("ignore = ['leaking-los']", "did you mean GG101 (leaking-loss)?"),
        ("ignore = ['E501']", "`tool.gradguard.ignore`: unknown code `E501`"),
        ("exclude = 3", "`tool.gradguard.exclude`: a list of texts is needed, not 3"),
        ("exclude = ['']", "`tool.gradguard.exclude`"),
        ("min-confidence = 'sure'", "one of low, medium, high is needed, not 'sure'"),
        ("min-confidence = 0.5", "one of low, medium, high is needed, not 0.5"),
        ("per-file-ignores = ['a.py']", "a table of patterns and codes is needed"),
        ("per-file-ignores = { 'a.py' = 'GG1' }", "a list of texts is needed, not 'GG1'"),
        ("policy = 'critic'", 'a table such as { critic_loss = "critic" } is needed'),
        ("policy = { a_loss = 3 }", "the policy for `a_loss`"),
        ("policy = { a_loss = { onyl = 'a' } }", "did you mean `only`?"),
        ("src = 'src'", "`tool.gradguard.src`: a list of texts is needed"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_by_name(
    table: str, complaint: str, tmp_path: Path
) -> None:
    """The error names the file and the setting, and says what is needed."""
    with pytest.raises(ConfigError) as caught:
        settings(tmp_path, table)
    assert str(caught.value).startswith(f"{tmp_path / 'pyproject.toml'}: `tool.gradguard")
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"[tool.gradguard\n", b"[tool.gradguard]\nselect = ['GG1'\n", b"# gradguard \xff"]
)
def test_a_file_that_is_no_toml_is_refused(content: bytes, tmp_path: Path) -> None:
    """The error says which file is broken, and where the parser stumbled."""
    (tmp_path / "pyproject.toml").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        Config.find(tmp_path)
    assert str(tmp_path / "pyproject.toml") in str(caught.value)


def test_a_table_that_is_no_table_is_refused(tmp_path: Path) -> None:
    """`tool.gradguard` has to be a table."""
    (tmp_path / "pyproject.toml").write_text("[tool]\ngradguard = true\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="is a table, not True"):
        Config.find(tmp_path)


def test_a_broken_file_that_does_not_speak_of_gradguard_is_not_ours_to_report(
    tmp_path: Path,
) -> None:
    """Settings of others may be as broken as they like."""
    (tmp_path / "pyproject.toml").write_text("[tool.other\n", encoding="utf-8")
    assert Config.find(tmp_path).path is None


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="anyone may read here")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    """Settings that are there and cannot be read are not taken for absent."""
    path = tmp_path / "pyproject.toml"
    path.write_text("[tool.gradguard]\n", encoding="utf-8")
    path.chmod(0)
    with pytest.raises(ConfigError, match="cannot read"):
        Config.find(tmp_path)


@pytest.mark.parametrize(
    ("file", "unwanted"),
    [
        ("train.py", set()),
        ("tests/test_train.py", expand("GG1")),
        ("tests/deep/er/test_train.py", expand("GG1")),
        ("legacy.py", {"GG103"}),
        ("sub/legacy.py", {"GG103"}),
        ("../outside/tests/x.py", set()),
    ],
)
def test_codes_are_ignored_in_the_files_that_a_pattern_names(
    file: str, unwanted: set[str], tmp_path: Path
) -> None:
    """Patterns are relative to the folder of the settings, as in .gitignore."""
    config = settings(
        tmp_path, "per-file-ignores = { 'tests/**' = ['GG1'], 'legacy.py' = ['GG103'] }"
    )
    assert defaults() - config.codes_for(tmp_path / file) == unwanted & defaults()


def test_the_command_line_lies_over_the_file(tmp_path: Path) -> None:
    """What it selects replaces what the file says of codes; what it ignores comes on top."""
    config = settings(tmp_path, "select = ['GG1']\nignore = ['GG101']")
    assert config.asking((), ()).codes == config.codes
    assert config.asking((), ("GG103",)).codes == config.codes - {"GG103"}
    assert config.asking(("GG101",), ()).codes == {"GG101", "GG902"}
    with pytest.raises(UnknownCode):
        config.asking(("GG109",), ())


def test_that_a_file_was_not_checked_is_said_unless_that_is_ignored(tmp_path: Path) -> None:
    """GG902 is reported whatever is selected, and can be ignored like any other code."""
    config = settings(tmp_path, "select = ['GG101']")
    assert config.codes == {"GG101", "GG902"}
    for word in ("GG902", "unreadable-file", "GG9", "ALL"):
        assert "GG902" not in config.asking((), (word,)).codes


def test_settings_reach_other_processes_whole(tmp_path: Path) -> None:
    """A configuration survives pickling, as the processes that lint need it."""
    config = settings(tmp_path, FULL.partition("[tool.gradguard]\n")[2])
    assert pickle.loads(pickle.dumps(config)) == config  # noqa: S301  We have just written it.

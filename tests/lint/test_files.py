"""Which files are linted: what is found in folders, and what is left out."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from gradguard.config import Config
from gradguard.lint import Sources


def plant(root: Path, *files: str) -> None:
    """Make empty files, with the folders that they are in; a name with `=` has content behind."""
    for one in files:
        name, _, content = one.partition("=")
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


def found(
    root: Path, *paths: str, exclude: Iterable[str] = (), force_exclude: bool = False
) -> list[str]:
    """Return what is found under ``paths``, relative to ``root``."""
    given = [root / path for path in paths or (".",)]
    sources = Sources.find(given, exclude=tuple(exclude), force_exclude=force_exclude)
    return [source.path.relative_to(root).as_posix() for source in sources.files]


def test_every_python_file_of_a_folder_is_found_in_order(tmp_path: Path) -> None:
    """Files are found at every depth, by their ending, in the order of their paths."""
    plant(tmp_path, "b.py", "a/z.py", "a/b/c.py", "a/notes.txt", "a.pyi", "script", "B/x.py")
    assert found(tmp_path) == ["B/x.py", "a/b/c.py", "a/z.py", "b.py"]


def test_hidden_folders_environments_and_output_are_left_out(tmp_path: Path) -> None:
    """What tools put beside the source is not linted."""
    plant(
        tmp_path,
        "train.py",
        ".tox/x.py",
        ".hidden/x.py",
        "__pycache__/x.py",
        "node_modules/a/x.py",
        "venv/x.py",
        "my-environment/pyvenv.cfg",
        "my-environment/lib/x.py",
        "lib/site-packages/x.py",
        "build/lib/x.py",
        "dist/x.py",
    )
    assert found(tmp_path) == ["train.py"]


def test_a_package_called_build_is_linted(tmp_path: Path) -> None:
    """A folder that happens to be called like output, and is a package, is source."""
    plant(tmp_path, "build/__init__.py", "build/model.py")
    assert found(tmp_path) == ["build/__init__.py", "build/model.py"]


@pytest.mark.parametrize("folder", [".hidden", "build", "venv"])
def test_a_folder_that_is_named_is_linted_whatever_it_is_called(
    folder: str, tmp_path: Path
) -> None:
    """Whoever names a folder means it."""
    plant(tmp_path, f"{folder}/x.py", f"{folder}/ignored.py", ".gitignore=ignored.py\n/build\n")
    (tmp_path / ".git").mkdir()
    assert found(tmp_path, folder) == [f"{folder}/x.py"]


def test_ignore_files_are_respected_at_every_depth(tmp_path: Path) -> None:
    """The deepest ignore file that speaks of a path decides, within one the last line."""
    plant(
        tmp_path,
        ".gitignore=*.gen.py\n/data/\n!keep.gen.py\n# comment\n",
        "a.gen.py",
        "keep.gen.py",
        "data/x.py",
        "sub/data/x.py",
        "sub/.gitignore=!b.gen.py\nlocal.py\n",
        "sub/b.gen.py",
        "sub/c.gen.py",
        "sub/local.py",
        "local.py",
    )
    assert found(tmp_path) == ["keep.gen.py", "local.py", "sub/b.gen.py", "sub/data/x.py"]


def test_ignore_files_above_count_up_to_the_root_of_the_repository(tmp_path: Path) -> None:
    """Linting a part of a repository leaves out what linting the whole would."""
    plant(
        tmp_path,
        ".gitignore=outside.py\n",
        "repo/.git/info/exclude=private.py\n",
        "repo/.gitignore=ignored.py\n",
        "repo/part/ignored.py",
        "repo/part/private.py",
        "repo/part/outside.py",
        "repo/part/train.py",
    )
    assert found(tmp_path, "repo/part") == ["repo/part/outside.py", "repo/part/train.py"]


def test_a_broken_line_of_an_ignore_file_does_not_hide_the_others(tmp_path: Path) -> None:
    """Lines that are no pattern are passed over, as git does."""
    (tmp_path / ".gitignore").write_bytes(b"!\n\xff\xfe\n***/[\nignored.py\n")
    plant(tmp_path, "ignored.py", "train.py")
    assert found(tmp_path) == ["train.py"]


def test_a_file_that_is_named_is_linted_whatever_excludes_it(tmp_path: Path) -> None:
    """Only `--force-exclude` leaves out a file that is named; ignore files never do."""
    plant(
        tmp_path,
        "pyproject.toml=[tool.gradguard]\nexclude = ['*_pb2.py']\n",
        ".gitignore=ignored.py\n",
        "ignored.py",
        "x_pb2.py",
        "script",
    )
    named = ["ignored.py", "script", "x_pb2.py"]
    assert found(tmp_path, *named) == named
    assert found(tmp_path, *named, force_exclude=True) == ["ignored.py", "script"]


def test_settings_and_command_line_exclude_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patterns are relative to the settings' folder, and to the working folder."""
    plant(
        tmp_path,
        "pyproject.toml=[tool.gradguard]\nexclude = ['/vendor', 'examples/broken']\n",
        ".gitignore=!vendor\n",
        "vendor/x.py",
        "sub/vendor/x.py",
        "examples/broken/x.py",
        "examples/x.py",
        "old/x.py",
    )
    monkeypatch.chdir(tmp_path / "sub")
    everything = ["examples/x.py", "old/x.py", "sub/vendor/x.py"]
    assert found(tmp_path) == everything
    assert found(tmp_path, exclude=["vendor"]) == everything[:2]
    assert found(tmp_path, "examples") == ["examples/x.py"]


def test_each_file_has_the_settings_of_its_own_project(tmp_path: Path) -> None:
    """In a folder of projects the nearest settings hold, under what the command line says."""
    plant(
        tmp_path,
        "pyproject.toml=[tool.gradguard]\nselect = ['GG1']\n",
        "a/pyproject.toml=[tool.gradguard]\nselect = ['GG2']\nexclude = ['skip.py']\n",
        "a/x.py",
        "a/skip.py",
        "b/skip.py",
        "b/pyproject.toml=[project]\nname = 'b'\n",
    )
    sources = Sources.find([tmp_path], lambda config: replace(config, unwanted=("GG101",)))
    wanted = {source.path.name: source.config.wanted for source in sources.files}
    assert wanted == {"x.py": ("GG2",), "skip.py": ("GG1",)}
    assert {source.config.unwanted for source in sources.files} == {("GG101",)}


def test_a_file_that_is_named_twice_is_linted_once(tmp_path: Path) -> None:
    """Neither repetition nor a link makes two of a file."""
    plant(tmp_path, "a/x.py")
    (tmp_path / "link.py").symlink_to(tmp_path / "a" / "x.py")
    assert found(tmp_path, "a", "a/x.py", ".", "a/../a/x.py") == ["a/x.py"]


def test_links_that_go_round_in_circles_end(tmp_path: Path) -> None:
    """A folder that links to itself, and a link to nowhere, are passed over."""
    plant(tmp_path, "a/x.py")
    (tmp_path / "a" / "again").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a" / "gone.py").symlink_to(tmp_path / "nowhere.py")
    (tmp_path / "a" / "self.py").symlink_to(tmp_path / "a" / "self.py")
    assert found(tmp_path) == ["a/x.py"]


def test_a_folder_reached_by_a_link_that_is_named_is_linted(tmp_path: Path) -> None:
    """Links are not followed on the way, but the named folder may be one."""
    plant(tmp_path, "real/x.py")
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    assert found(tmp_path, "link") == ["link/x.py"]


def test_folders_called_like_files_are_folders(tmp_path: Path) -> None:
    """A folder whose name ends in `.py` is walked, and is itself no file."""
    plant(tmp_path, "odd.py/x.py")
    assert found(tmp_path) == ["odd.py/x.py"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="anyone may read here")
def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    """What could not be looked into is not passed over in silence."""
    plant(tmp_path, "shut/x.py", "open.py")
    (tmp_path / "shut").chmod(0)
    sources = Sources.find([tmp_path])
    (tmp_path / "shut").chmod(0o700)
    [(source, reason)] = sources.unreadable
    assert (source.path, reason) == (tmp_path / "shut", "Permission denied")


def test_notebooks_are_set_aside(tmp_path: Path) -> None:
    """A notebook that is named is not taken for Python source."""
    plant(tmp_path, "a.ipynb={}", "b.py")
    sources = Sources.find([tmp_path / "a.ipynb", tmp_path / "b.py"])
    assert sources.notebooks == [tmp_path / "a.ipynb"]
    assert [source.path.name for source in sources.files] == ["b.py"]


def test_settings_are_shared_by_the_files_of_a_project(tmp_path: Path) -> None:
    """One project has one set of settings, however many files it has."""
    plant(tmp_path, "a.py", "b/c.py")
    sources = Sources.find([tmp_path], lambda config: replace(config, unwanted=("GG101",)))
    first, second = (source.config for source in sources.files)
    assert first is second
    assert isinstance(first, Config)


PARTS = st.sampled_from(["a", "b", "data", "x.gen"])
PATTERNS = st.sampled_from(
    [
        *("a", "/a", "a/", "a/b", "*.gen.py", "!a", "!*.gen.py", "**/b", "data/*"),
        *("!data/a.py", "/*/b", "#a", "a.py", "!/a/b.py"),
    ]
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    files=st.sets(st.lists(PARTS, min_size=1, max_size=3).map("/".join), min_size=1, max_size=6),
    ignores=st.dictionaries(
        st.sampled_from(["", "a/", "a/b/", "data/"]), st.lists(PATTERNS, max_size=3), max_size=3
    ),
)
def test_what_git_ignores_is_left_out_and_nothing_else(
    files: set[str], ignores: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """On random trees of files and patterns, what is found is what git would list."""
    root = tmp_path_factory.mktemp("repository")
    plant(root, *(f"{name}.py" for name in files))
    plant(root, *(f"{folder}.gitignore=" + "\n".join(lines) for folder, lines in ignores.items()))
    git = ["git", "-c", "core.excludesFile=/dev/null", "-C", str(root)]
    subprocess.run([*git, "init", "-q"], check=True)
    listed = subprocess.run(
        [*git, "ls-files", "--others", "--exclude-standard", "*.py"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert sorted(found(root)) == sorted(listed)

"""Take one mechanism after another out of a copy of gradguard and see that its test fails.

``python tests/mutations [NAME ...]`` runs the mutations whose name begins with one of the names
given, all of them by default. It changes nothing in the tree. Exit codes: 0 every mutation made
its test fail, 1 one survived, 2 one could not be made: its text is not in its file exactly once,
or what it leaves is no Python that can be imported.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_name("hazards.toml")
COPIED = ("gradguard", "tests/runtime", "pyproject.toml")


@dataclass(frozen=True)
class Mutation:
    """One mechanism taken out.

    Attributes:
        name: The hazard, with a letter where it has several mechanisms.
        what: What is taken out, in a few words.
        file: The file below the package.
        old: Text that is in the file exactly once.
        new: What replaces it.
        test: The test that must fail, as pytest spells it, below ``tests/runtime``.
    """

    name: str
    what: str
    file: str
    old: str
    new: str
    test: str

    def apply(self, root: Path) -> str | None:
        """Mutate the copy below ``root``; return what is wrong if that cannot be done."""
        path = root / "gradguard" / self.file
        text = path.read_text(encoding="utf-8")
        found = text.count(self.old)
        if found != 1:
            return f"the text to replace is {found} times in gradguard/{self.file}, not once"
        mutated = text.replace(self.old, self.new)
        try:
            compile(mutated, self.file, "exec")
        except SyntaxError as error:
            return f"leaves no Python: {error}"
        path.write_text(mutated, encoding="utf-8")
        return None


def load(path: Path = TABLE) -> list[Mutation]:
    """Read the table of mutations, each under its name."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    return [Mutation(name=name, **table) for name, table in tables.items()]


def run(root: Path, *tests: str) -> tuple[int, str]:
    """Run tests in the copy below ``root``; return pytest's status and why the first failed."""
    # Written into the copy at most: no cache that the next mutation could be served from.
    environment = os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    environment["COLUMNS"] = "400"  # Pytest leaves the reason out where it does not fit.
    command = [sys.executable, "-P", "-m", "pytest", "-x", "-q", "-n", "0"]
    # Imported as a plugin, so that a package that cannot be imported is no failing test.
    command += ["-p", "no:cacheprovider", "-p", "gradguard.runtime.guard"]
    command += [*(f"tests/runtime/{test}" for test in tests)]
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    lines = (done.stdout + done.stderr).strip().splitlines()
    reasons = [line.partition(" - ")[2] for line in lines if line.startswith("FAILED ")]
    return done.returncode, (*reasons, *lines[-1:], "")[0][:70]


def main(names: list[str]) -> int:
    """Make the mutations that ``names`` choose and say of each what came of it."""
    chosen = [m for m in load() if not names or m.name.startswith(tuple(names))]
    if not chosen:
        print(f"no mutation is called like {', '.join(names)}")
        return 2
    worst = 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, root / name)
        status, said = run(root, *dict.fromkeys(m.test for m in chosen))
        if status:
            print(f"the tests fail as they are: {said}")
            return 2
        for mutation in chosen:
            path = root / "gradguard" / mutation.file
            kept = path.read_text(encoding="utf-8")
            wrong = mutation.apply(root)
            if wrong is None:
                status, said = run(root, mutation.test)
                path.write_text(kept, encoding="utf-8")
                if status not in {0, 1}:
                    wrong = f"pytest could not run (status {status}): {said}"
            if wrong is not None:
                outcome, worst = wrong, 2
            elif status:
                outcome = f"fails: {said}"
            else:
                outcome, worst = f"SURVIVED {mutation.test}", max(worst, 1)
            print(f"{mutation.name:4} {mutation.what}: {outcome}", flush=True)
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

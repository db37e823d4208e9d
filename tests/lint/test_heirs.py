"""Files without a backward of their own, whose classes train by what they are derived from."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from gradguard.lint import Sources, lint_sources

BASE = """
    import copy

    import torch
    from torch import nn


    class Learner:
        def __init__(self, width):
            self.critic = nn.Linear(width, 1)
            self.target = copy.deepcopy(self.critic)
            self.optimizer = torch.optim.Adam(self.critic.parameters())

        def bootstrap(self, batch):
            raise NotImplementedError

        def update(self, batch):
            loss = (self.critic(batch.state) - self.bootstrap(batch)).pow(2).mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
"""

HEIR = """
    import torch

    from .{module} import *
    from .{module} import Learner


    class Heir(Learner):
        def bootstrap(self, batch):
            with torch.{mode}():
                return batch.reward + 0.99 * self.target(batch.after)
"""


@pytest.mark.parametrize(("mode", "codes"), [("no_grad", set()), ("enable_grad", {"GG104"})])
def test_a_hook_is_seen_in_the_training_that_a_base_class_elsewhere_runs(
    tmp_path: Path, mode: str, codes: set[str]
) -> None:
    """A class that only fills in a hook is trained with, although its file runs nothing."""
    package = tmp_path / "package"
    package.mkdir()
    files = {
        "__init__.py": "",
        "base.py": dedent(BASE),
        "heir.py": dedent(HEIR).format(module="base", mode=mode),
    }
    for name, text in files.items():
        (package / name).write_text(text, encoding="utf-8")
    found = lint_sources(Sources.find([package / "heir.py"]), jobs=1)
    assert {finding.code for finding in found} == codes


def test_modules_that_import_everything_from_each_other_are_looked_through_once(
    tmp_path: Path,
) -> None:
    """Twenty modules, each with all names of all others, offer no way to get lost."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    for number in range(20):
        stars = [f"from .m{other} import *" for other in range(20) if other != number]
        (package / f"m{number}.py").write_text("\n".join(stars), encoding="utf-8")
    (package / "train.py").write_text(
        dedent(
            """
            import torch
            from .m0 import *

            def train(net, batch):
                optimizer = make_optimizer(net)
                loss = criterion(net(batch)).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            """
        ),
        encoding="utf-8",
    )
    assert lint_sources(Sources.find([package / "train.py"]), jobs=1) == []

"""Whose code a line is: the program's, or that of the libraries it trains with."""

from __future__ import annotations

import linecache
from pathlib import Path

import pytest
import torch

import gradguard

LEAK = """
fake = generator(torch.ones(4, 3))
critic(fake).mean().backward()
"""


@pytest.mark.parametrize("home", [torch.__file__, gradguard.__file__])
def test_a_package_whose_name_begins_like_a_library_is_the_programs(home: str) -> None:
    """A finding points into `torchrl` or `gradguard_examples` as into any code of the program."""
    filename = f"{Path(home).parent}like/train.py"
    linecache.cache[filename] = (len(LEAK), None, LEAK.splitlines(keepends=True), filename)
    models = {"generator": torch.nn.Linear(3, 2), "critic": torch.nn.Linear(2, 1)}
    with pytest.raises(gradguard.IsolationError) as caught, gradguard.only(models["critic"]):
        exec(compile(LEAK, filename, "exec"), {"torch": torch, **models})  # noqa: S102
    [finding] = caught.value.findings
    assert {step.filename for step in finding.trace} == {filename}
    assert [step.location.row for step in finding.trace] == [2, 3, 3]

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

from gradguard import reference

MODULES = [
    f"{reference.__name__}.{module.name}"
    for module in pkgutil.iter_modules(reference.__path__)
    if module.name != "__main__"
]


@pytest.mark.parametrize("name", [reference.__name__, *MODULES])
def test_the_examples_in_docstrings_run(name: str) -> None:
    """Property: what a docstring shows is what happens."""
    assert doctest.testmod(importlib.import_module(name)).failed == 0

from __future__ import annotations

import pytest
from plugin_support import Project


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Start with the models of a user and no test yet, on a wide terminal."""
    monkeypatch.setenv("COLUMNS", "200")
    return Project(pytester)

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Run these tiny models in one thread; a search runs them thousands of times."""
    torch.set_num_threads(1)

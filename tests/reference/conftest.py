from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Train these tiny models as the loop itself does, also where a test calls a step directly."""
    torch.set_num_threads(1)

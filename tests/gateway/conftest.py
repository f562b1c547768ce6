"""What tests of commands start from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.gateway.good import GOOD


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., str]:
    """Write a config file; without a text the smallest that fits."""

    def write(text: str = GOOD) -> str:
        path = tmp_path / "gateway.yaml"
        path.write_text(text)
        return str(path)

    return write

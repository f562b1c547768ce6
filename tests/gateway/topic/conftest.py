"""The topics of a question and its replies, and the state that answers are kept in."""

from __future__ import annotations

import pytest

from tests.fake_log import FakeLog
from tests.gateway.topic.kept import state_log


@pytest.fixture
def log():
    return FakeLog({"asked": 1, "answered": 1})


@pytest.fixture
def kept():
    return state_log()

"""The WebSocket listener, over loopback with the library's own client."""

from __future__ import annotations

import pytest

from tests.adapters.ingress.websocket_driver import WebSocketDriver
from tests.contract.ingress import IngressContract


class TestContract(IngressContract):
    @pytest.fixture
    def driver(self):
        return WebSocketDriver()

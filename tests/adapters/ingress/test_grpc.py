"""The gRPC listener, over loopback with grpcio's own client."""

from __future__ import annotations

import pytest

from tests.adapters.ingress.grpc_driver import GrpcDriver
from tests.contract.ingress import IngressContract


class TestContract(IngressContract):
    @pytest.fixture
    def driver(self):
        return GrpcDriver()

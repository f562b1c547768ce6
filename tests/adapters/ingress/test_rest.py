"""The REST listener: what every ingress promises, and what HTTP's own words mean here."""

from __future__ import annotations

import pytest

from gateway.framing import NDJSON, SSE
from tests.adapters.ingress.rest_driver import RestDriver
from tests.contract.ingress import IngressContract


class TestContractOverNdjson(IngressContract):
    @pytest.fixture
    def driver(self):
        return RestDriver(NDJSON)


class TestContractOverServerSentEvents(IngressContract):
    @pytest.fixture
    def driver(self):
        return RestDriver(SSE)

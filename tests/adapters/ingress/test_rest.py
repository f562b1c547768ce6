"""The REST listener: what every ingress promises, and what HTTP's own words mean here."""

from __future__ import annotations

import pytest

from gateway.framing import NDJSON, SSE
from gateway.message import Headers, Many
from tests.adapters.ingress.rest_driver import RestDriver
from tests.contract.driver import serving
from tests.contract.ingress import IngressContract


class TestContractOverNdjson(IngressContract):
    @pytest.fixture
    def driver(self):
        return RestDriver(NDJSON)


class TestContractOverServerSentEvents(IngressContract):
    @pytest.fixture
    def driver(self):
        return RestDriver(SSE)


async def test_a_stream_has_our_caching_headers_and_the_backends_others():
    async def handler(exchange):
        await exchange.receive()
        await exchange.accept(Headers((("cache-control", "max-age=9"), ("x-served-by", "shop"))))

    driver = RestDriver(NDJSON)
    async with driver.listening(serving(handler, Many.REPLIES)):
        answer = await driver.ask()
    assert ("no-store",) == answer.headers.all("cache-control")
    assert "shop" == answer.headers.get("x-served-by")

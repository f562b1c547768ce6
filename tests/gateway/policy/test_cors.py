"""The policy `cors`: what a browser must be told so that a page may call, and read what it is answered."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.errors import AnswerHeaders, BackendError, CallerError, GatewayError, HttpAnswer, Reason
from gateway.exchange import Exchange, Memory
from gateway.message import JSON, Headers, Message
from gateway.policy import PolicyConfig
from gateway.policy.cors import Config
from gateway.status import marks
from tests.contract.policy import PolicyContract, a_call

SHOP = "https://shop.example"


class TestContract(PolicyContract):
    @pytest.fixture
    def config(self) -> PolicyConfig:
        return Config(origins=(SHOP,))


def caller(origin: str | None = SHOP, target: str = "POST /orders/ada", **headers: str) -> Memory:
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Memory(
        Message(b"{}", JSON), call=a_call(target=target, headers=Headers([*([("origin", origin)] if origin else []), *named]))
    )


def preflight(origin: str = SHOP) -> Memory:
    return caller(origin, "OPTIONS /orders/ada", access_control_request_method="POST")


async def run(config: Config, exchange: Exchange, handler=None) -> None:
    async def echo(inner: Exchange) -> None:
        await inner.send(await inner.receive())

    await config.build("orders", "rest")(exchange, handler or echo)


async def test_an_answer_to_a_page_that_may_call_is_marked():
    exchange = caller()
    await run(Config(origins=(SHOP,)), exchange)
    assert SHOP == exchange.headers.get("access-control-allow-origin")
    assert "*" == exchange.headers.get("access-control-expose-headers")
    assert "origin" == exchange.headers.get("vary")
    assert None is exchange.headers.get("access-control-allow-credentials")
    assert 1 == len(exchange.replies)


async def test_an_answer_without_a_body_is_marked_too():
    async def nothing(_exchange: Exchange) -> None:
        return

    exchange = caller()
    await run(Config(origins=(SHOP,)), exchange, nothing)
    assert SHOP == exchange.headers.get("access-control-allow-origin")


async def test_an_error_is_marked_so_that_the_page_can_read_it():
    async def fail(_exchange: Exchange) -> None:
        raise BackendError(Reason.UNREACHABLE, "away")

    with pytest.raises(GatewayError) as caught:
        await run(Config(origins=(SHOP,)), caller(), fail)
    assert SHOP == marks(caught.value).get("access-control-allow-origin")


async def test_an_error_after_the_yes_is_not_marked_twice():
    async def fail(exchange: Exchange) -> None:
        await exchange.accept()
        raise BackendError(Reason.UNREACHABLE, "away")

    exchange = caller()
    with pytest.raises(GatewayError) as caught:
        await run(Config(origins=(SHOP,)), exchange, fail)
    assert (SHOP,) == exchange.headers.all("access-control-allow-origin")
    assert () == tuple(marks(caught.value))


async def test_what_a_backend_says_of_cors_itself_is_taken_off():
    theirs = Headers((("access-control-allow-origin", "*"), ("x-shelf", "3")))

    async def accept(exchange: Exchange) -> None:
        await exchange.accept(theirs)

    async def fail(_exchange: Exchange) -> None:
        raise BackendError(Reason.BACKEND_NOT_FOUND, "no", details=(HttpAnswer(404, b"", theirs), AnswerHeaders(theirs)))

    exchange = caller()
    await run(Config(origins=(SHOP,)), exchange, accept)
    with pytest.raises(GatewayError) as caught:
        await run(Config(origins=(SHOP,)), caller(), fail)
    assert (SHOP,) == exchange.headers.all("access-control-allow-origin")
    assert "3" == exchange.headers.get("x-shelf")
    assert (SHOP,) == marks(caught.value).all("access-control-allow-origin")
    assert None is caught.value.details[0].headers.get("access-control-allow-origin")


async def test_a_preflight_is_answered_and_the_handler_does_not_run():
    async def never(_exchange: Exchange) -> None:
        raise AssertionError("a preflight is no call")

    exchange = preflight()
    await run(Config(origins=(SHOP,), methods=("GET", "POST"), request_headers=("X-Tenant",), max_age=60), exchange, never)
    headers = exchange.headers
    assert ("204", SHOP) == (headers.get(":status"), headers.get("access-control-allow-origin"))
    assert ("GET, POST", "60") == (headers.get("access-control-allow-methods"), headers.get("access-control-max-age"))
    allowed = headers.get("access-control-allow-headers").split(", ")
    assert {"content-type", "connect-protocol-version", "connect-timeout-ms", "x-grpc-web", "x-user-agent", "grpc-timeout"} < set(
        allowed
    )
    assert "x-tenant" in allowed
    assert "origin" == headers.get("vary")


@pytest.mark.parametrize("asked", [caller, preflight])
async def test_another_origin_is_refused_and_told_nothing_else(asked):
    with pytest.raises(CallerError) as caught:
        await run(Config(origins=(SHOP,)), asked("https://evil.example"))
    assert Reason.FORBIDDEN is caught.value.reason
    assert Headers((("vary", "origin"),)) == marks(caught.value)


@pytest.mark.parametrize("headers", [{"origin": None}, {"origin": "https://api.example:8443", "host": "API.example:8443"}])
async def test_no_origin_and_the_gateways_own_are_not_its_business(headers):
    exchange = caller(**headers)
    await run(Config(origins=(SHOP,)), exchange)
    assert Headers((("vary", "origin"),)) == exchange.headers
    assert 1 == len(exchange.replies)


@pytest.mark.parametrize(
    ("written", "taken", "refused"),
    [
        (
            "https://*.shop.example",
            ["https://a.shop.example", "https://a-1.shop.example"],
            ["https://shop.example", "https://a.b.shop.example", "https://evil.example/.shop.example", "http://a.shop.example"],
        ),
        ("https://*.shop.example", [], ["https://ashop.example", "https://a.shop.example.evil"]),
        (
            "http://localhost:*",
            ["http://localhost:3000", "http://localhost:65535"],
            ["http://localhost", "http://localhost:1/x", "http://localhost.evil:3000"],
        ),
        ("https://shop.example", ["https://shop.example"], ["https://shop-example", "https://shop.example:444"]),
        ("null", ["null"], ["https://null"]),
        ("*", ["https://anybody.example", "null"], []),
    ],
)
async def test_an_origin_is_taken_as_it_is_written(written, taken, refused):
    config = Config(origins=(written,))
    for origin in taken:
        exchange = caller(origin)
        await run(config, exchange)
        assert exchange.headers.get("access-control-allow-origin") in {origin, "*"}
    for origin in refused:
        with pytest.raises(CallerError):
            await run(config, caller(origin))


async def test_what_is_the_same_for_everybody_does_not_vary():
    exchange = caller("https://anybody.example")
    await run(Config(origins=("*",)), exchange)
    assert ("*", None) == (exchange.headers.get("access-control-allow-origin"), exchange.headers.get("vary"))


async def test_with_credentials_names_are_written_out():
    exchange, before = caller(), preflight()
    config = Config(origins=(SHOP,), credentials=True, exposed_headers=("Trailer-X-Left",))
    await run(config, exchange)
    await run(config, before)
    exposed = exchange.headers.get("access-control-expose-headers").split(", ")
    assert {"grpc-status", "grpc-message", "grpc-status-details-bin", "trailer-x-left", "x-request-id"} < set(exposed)
    assert "true" == exchange.headers.get("access-control-allow-credentials")
    assert "true" == before.headers.get("access-control-allow-credentials")


@pytest.mark.parametrize(
    "settings",
    [
        {"origins": ()},
        {"origins": ("*", SHOP)},
        {"origins": ("*",), "credentials": True},
        {"origins": ("shop.example",)},
        {"origins": ("https://shop.example/",)},
        {"origins": ("https://*",)},
        {"origins": ("https://a.*.example",)},
        {"origins": ("https://shop.example:*1",)},
        {"origins": (SHOP,), "methods": ("TRACE",)},
        {"origins": (SHOP,), "request_headers": ("a b",)},
        {"origins": (SHOP,), "max_age": -1},
    ],
)
def test_what_cannot_work_is_refused_when_loading(settings):
    with pytest.raises(ValidationError):
        Config(**settings)

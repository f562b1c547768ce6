"""The policy `headers`."""

from __future__ import annotations

import pytest

from gateway.exchange import Memory
from gateway.message import NO_HEADERS, Headers, Message
from gateway.policy import Guard
from gateway.policy.headers import Config
from tests.contract.policy import PolicyContract, a_call, echo


class TestContract(PolicyContract):
    @pytest.fixture
    def config(self):
        return Config(set={"x-tenant": "shop"}, replies={"add": {"x-served-by": "polygate"}})


class TestContractWithoutRules(PolicyContract):
    @pytest.fixture
    def config(self):
        return Config()


def _built(**settings):
    return Config.model_validate({"kind": "headers", **settings}).build("orders", "rest")


async def _asked(headers, **settings) -> Headers:
    seen = []

    async def inside(exchange):
        seen.append(exchange.call.headers)

    await _built(**settings)(Memory(call=a_call(headers=Headers(headers))), inside)
    return seen[0]


async def test_requests_lose_what_is_removed_then_get_what_is_set_then_what_is_added():
    before = (("via", "1.1 a"), ("x-debug", "1"), ("x-tenant", "evil"), ("x-tenant", "worse"), ("accept", "*/*"))
    after = await _asked(before, remove=["X-Debug"], set={"X-Tenant": "shop"}, add={"via": "polygate"})
    assert Headers((("via", "1.1 a"), ("accept", "*/*"), ("x-tenant", "shop"), ("via", "polygate"))) == after


async def test_replies_get_theirs_beside_what_the_inside_accepts_with():
    exchange = Memory(call=a_call())

    async def inside(exchange):
        await exchange.accept(Headers(((":status", "201"), ("server", "erp/1.0"))))
        await exchange.send(Message(b"1"))

    await _built(replies={"remove": ["server"], "set": {"x-frame-options": "DENY"}})(exchange, inside)
    assert Headers(((":status", "201"), ("x-frame-options", "DENY"))) == exchange.headers


async def test_replies_get_theirs_where_the_first_reply_accepts():
    exchange = Memory(Message(b"1"), call=a_call())
    await _built(replies={"add": {"x-a": "1"}})(exchange, echo)
    assert Headers((("x-a", "1"),)) == exchange.headers


async def test_a_websocket_gets_them_with_the_101():
    class Socket(Memory):
        async def receive(self):
            await self.accept()
            return await super().receive()

    exchange = Socket(Message(b"1"), call=a_call(protocol="websocket"))
    await _built(replies={"add": {"x-a": "1"}})(exchange, echo)
    assert Headers((("x-a", "1"),)) == exchange.headers


async def test_without_rules_for_replies_nothing_is_accepted_on_its_own():
    exchange = Memory(Message(b"1"), call=a_call(protocol="websocket"))
    await _built(set={"x-a": "1"})(exchange, echo)
    assert NO_HEADERS == exchange.headers


@pytest.mark.parametrize(
    "name", ["Connection", "transfer-encoding", "content-length", "te", "host", "grpc-timeout", ":status", "a b", ""]
)
@pytest.mark.parametrize("rule", ["remove", "set", "add"])
def test_names_that_belong_to_the_wire_or_are_none_are_refused(name, rule):
    with pytest.raises(ValueError, match=r"belong|must be"):
        _built(**{rule: [name] if rule == "remove" else {name: "1"}})


@pytest.mark.parametrize("value", ["a\r\nb: c", " a", "a ", "a\0", "\u00e9", "a" * 9000])
def test_values_that_not_every_wire_can_carry_are_refused(value):
    with pytest.raises(ValueError, match=r"must be|at most"):
        _built(set={"x-a": value})


def test_it_guards_the_call():
    assert Guard.CALL is _built().guards

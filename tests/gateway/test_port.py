"""Addresses, and what a config model says of itself unless it says otherwise."""

from __future__ import annotations

import asyncio
import socket

import pytest
from pydantic import TypeAdapter, ValidationError

from gateway.breaker import Breaker, BreakerConfig
from gateway.codec import Contract
from gateway.message import Many
from gateway.port import UNSENT_BYTES, Address, Bind, ListenerConfig, TargetConfig, View, limit_unsent, split_bind
from gateway.task import Tasks


@pytest.mark.parametrize(
    ("bind", "parts"), [("127.0.0.1:8080", ("127.0.0.1", 8080)), ("[::1]:0", ("::1", 0)), (":8080", ("", 8080))]
)
def test_a_bind_is_a_host_and_a_port(bind, parts):
    assert parts == split_bind(bind)


@pytest.mark.parametrize("bind", ["8080", "host", "host:", "host:70000", "host:80x"])
def test_a_bind_that_is_none_is_refused(bind):
    with pytest.raises(ValidationError):
        TypeAdapter(Bind).validate_python(bind)


def test_an_address_reads_as_it_is_written():
    assert "127.0.0.1:80" == str(Address("127.0.0.1", 80))
    assert "[::1]:80" == str(Address("::1", 80))


def test_a_target_that_calls_streams_as_its_contract_says_and_another_as_its_verb():
    class Call(TargetConfig):
        verb = "call"

    class Feed(TargetConfig):
        verb = "tail"
        streams = Many.REPLIES

    contract = Contract("t.S/M", None, None, Many.BOTH)
    assert Many.BOTH == Call(backend="b").many(contract)
    assert Many.NEITHER == Call(backend="b").many(None)
    assert Many.REPLIES == Feed(backend="b").many(contract)


def test_a_listener_takes_a_path_and_messages_of_any_size_unless_it_says_otherwise():
    class Wire(ListenerConfig):
        def build(self, name, view):
            raise NotImplementedError

    assert ("", "/feed") == Wire.pattern("/feed")
    assert Many.NEITHER == Wire.shape(None)
    assert Wire(kind="wire").limit() is None


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="this system has no such limit")
def test_a_listening_socket_bounds_what_the_kernel_holds_for_its_connections():
    with socket.socket() as listening:
        limit_unsent(listening)
        assert UNSENT_BYTES == listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)


async def test_a_view_knows_the_breakers_of_the_backends_that_have_one():
    class Guarded:
        breaker = Breaker("stock", BreakerConfig(), lambda: asyncio.sleep(0), Tasks())

    view = View(lambda *_: None, backends={"stock": Guarded(), "events": object()})
    assert Guarded.breaker is view.breaker("stock")
    assert view.breaker("events") is view.breaker("nobody") is None

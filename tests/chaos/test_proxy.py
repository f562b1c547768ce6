"""The proxy fails as it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.chaos.proxy import Proxy, Weather
from tests.chaos.rig import free_ports


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(1024):
            writer.write(chunk)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Proxy(free_ports(1)[0], 7) as proxy:
        proxy.target = server.sockets[0].getsockname()[1]
        yield proxy


async def said(proxy: Proxy, text: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = proxy.address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(text)
    return reader, writer


async def test_fair_weather_lets_all_through(proxy):
    reader, writer = await said(proxy, b"hello")
    assert b"hello" == await reader.readexactly(5)
    writer.transport.abort()


@pytest.mark.parametrize("weather", [Weather.BLACK, Weather.DEAF])
async def test_nothing_comes_back_until_the_weather_is_fair_again(proxy, weather):
    proxy.weather = weather
    reader, writer = await said(proxy, b"hello")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await reader.readexactly(5)
    proxy.weather = Weather.FAIR
    assert b"hello" == await reader.readexactly(5)
    writer.transport.abort()


async def test_a_connection_can_be_reset(proxy):
    reader, _ = await said(proxy, b"hello")
    await reader.readexactly(5)
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        await reader.read()


async def test_a_cut_lets_a_part_through_and_then_resets(proxy):
    proxy.weather = Weather.CUT
    reader, _ = await said(proxy, b"x" * 100)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(100)

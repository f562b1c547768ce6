"""Reading a request's body."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import StreamReader

from adapters.ingress.rest.request import read_some


async def test_a_caller_who_was_gone_before_its_handler_began_is_no_defect_of_ours():
    loop = asyncio.get_running_loop()
    gone = SimpleNamespace(content=StreamReader(BaseProtocol(loop), 1 << 16, loop=loop), transport=None)
    with pytest.raises(asyncio.CancelledError):
        await read_some(gone)


async def test_what_the_library_says_of_a_caller_who_is_there_is_one():
    loop = asyncio.get_running_loop()
    there = SimpleNamespace(content=StreamReader(BaseProtocol(loop), 1 << 16, loop=loop), transport=object())
    with pytest.raises(RuntimeError):
        await read_some(there)

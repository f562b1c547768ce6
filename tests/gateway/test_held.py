"""Parts that are there until they are told to leave."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from gateway.bind import listen
from gateway.held import Gone, Held, HeldBackend, HeldKept, HeldListener
from gateway.inside import Inside
from gateway.kept import NOTHING_KEPT
from gateway.listener import View
from gateway.task import Tasks


def listener(name: str, bind: str) -> HeldListener:
    return HeldListener(None, AsyncExitStack(), name, View(lambda *_asked: None), "rest", bind)


@pytest.mark.parametrize(
    ("one", "other", "takes"),
    [
        (("a", "h:80"), ("a", "h:80"), True),
        (("a", "h:80"), ("b", "h:80"), True),
        (("a", "h:80"), ("a", "h:81"), False),
        (("a", "h:0"), ("a", "h:0"), True),
        (("a", "h:0"), ("b", "h:0"), False),
        (("a", ""), ("a", ""), False),
    ],
)
def test_who_takes_the_place_of_whom(one, other, takes):
    assert takes is listener(*one).successor(listener(*other))


def test_a_listener_has_the_sockets_of_the_one_before_while_that_has_them_too():
    first, second = listener("a", "127.0.0.1:0"), listener("a", "127.0.0.1:0")
    sockets = [*first.listen(listen, None, "a", first.bind, 8), *second.listen(listen, first, "a", first.bind, 8)]
    try:
        assert 1 == len({one.getsockname() for one in sockets})
        assert 2 == len({one.fileno() for one in sockets})
    finally:
        for one in sockets:
            one.close()


async def test_one_that_does_not_leave_as_it_should_is_told_and_keeps_nobody(caplog):
    async def fails() -> None:
        raise RuntimeError("stuck")

    held = Held("b", AsyncExitStack())
    held.stack.push_async_callback(fails)
    await held.close()
    assert held.gone
    assert "did not leave as it should: b" in caplog.text


async def test_who_uses_a_backend_that_leaves_is_told_so_though_what_is_kept_leaves_too():
    """Not only at the end, all at once: what is kept waited for the streams, and nobody had ended them."""
    left: list[str] = []
    kept = HeldKept("state", AsyncExitStack(), NOTHING_KEPT)
    backend = HeldBackend("log", AsyncExitStack(), None)
    for one in (kept, backend):
        one.stack.callback(left.append, one.says)
    inside = Inside()

    async def stream() -> None:
        inside.running[asyncio.current_task()] = True
        try:
            await asyncio.Event().wait()
        finally:
            left.append("stream")
            inside.running.clear()
            inside.left()

    async with Tasks() as tasks, asyncio.timeout(60):
        tasks.spawn(stream(), "a stream")
        await asyncio.sleep(0)
        backend.users.note([inside])
        await Gone([], [backend], [kept]).leave(3600)
    assert ["stream", "state", "log"] == left

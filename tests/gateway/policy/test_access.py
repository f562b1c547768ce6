"""The access log's buffer, on real pipes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time

import pytest

from gateway.policy import access
from gateway.policy.access import Clock, Lines


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):  # a test may have closed it
            os.close(end)


def _read(pipe) -> bytes:
    os.set_blocking(pipe[0], False)
    read = b""
    with contextlib.suppress(BlockingIOError):  # that was all
        while chunk := os.read(pipe[0], 1 << 20):
            read += chunk
    return read


async def _arrived(pipe) -> bytes:
    """What the loop writes by itself."""
    arrived = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(pipe[0], arrived.set)
    await arrived.wait()
    loop.remove_reader(pipe[0])
    return _read(pipe)


async def test_lines_are_written_by_the_loop_a_little_later(pipe):
    lines = Lines(pipe[1])
    lines.add("one")
    lines.add("two")
    assert b"" == _read(pipe)
    assert b"one\ntwo\n" == await _arrived(pipe)
    lines.add("three")
    assert b"three\n" == await _arrived(pipe)


async def test_a_full_chunk_is_written_at_once(pipe):
    lines = Lines(pipe[1])
    line = "x" * 1023
    for _ in range(access.FLUSH_BYTES // 1024 - 1):
        lines.add(line)
    assert b"" == _read(pipe)
    lines.add(line)
    assert access.FLUSH_BYTES == len(_read(pipe))
    lines.flush()


async def test_flush_writes_everything_at_once(pipe):
    lines = Lines(pipe[1])
    lines.add("last")
    lines.flush()
    assert b"last\n" == _read(pipe)
    lines.flush()
    assert b"" == _read(pipe)


async def test_a_reader_that_has_stalled_costs_lines_and_no_waiting_and_is_told_how_many(pipe):
    lines = Lines(pipe[1])
    line = "x" * 1023
    number = 3 * access.MAX_BYTES // 1024
    for _ in range(number):
        lines.add(line)
    lines.flush(0.0)
    assert 0 < lines.dropped < number
    read = b""
    while chunk := _read(pipe):
        read += chunk
        lines.flush(0.0)
    *whole, told = read.decode().splitlines()
    assert f'{{"dropped_lines":{lines.dropped}}}' == told
    assert [line] * (number - lines.dropped) == whole


async def test_what_was_left_over_is_written_by_the_loop_once_there_is_room(pipe, monkeypatch):
    monkeypatch.setattr(access, "FLUSH_S", 0.001)
    lines = Lines(pipe[1])
    for _ in range(200):
        lines.add("x" * 1023)
    read = b""
    while len(read) < 200 * 1024:
        read += await _arrived(pipe)
    assert [1023] * 200 == [len(line) for line in read.decode().splitlines()]
    lines.flush()


async def test_flush_waits_no_longer_than_it_is_told(pipe):
    lines = Lines(pipe[1])
    for _ in range(200):
        lines.add("x" * 1023)
    lines.flush(0.01)
    assert 0 == lines.dropped


async def test_a_reader_that_is_gone_costs_lines_and_no_error(pipe):
    lines = Lines(pipe[1])
    os.close(pipe[0])
    lines.add("one")
    lines.add("two")
    lines.flush()
    assert 2 == lines.dropped


async def test_a_pipe_that_says_it_would_block_is_asked_again_later(pipe, monkeypatch):
    lines = Lines(pipe[1])
    lines.add("one")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda *_: (_ for _ in ()).throw(BlockingIOError()))
        assert not lines.write()
    lines.flush()
    assert b"one\n" == _read(pipe)


def test_the_clock_tells_utc_to_the_millisecond_and_takes_steps_in_any_direction():
    times = iter([0.0, 1.5, 1.9996, 86_399.25, 1.0])
    clock = Clock(lambda: next(times))
    assert "1970-01-01T00:00:00.000Z" == clock()
    assert "1970-01-01T00:00:01.500Z" == clock()
    assert "1970-01-01T00:00:01.999Z" == clock()
    assert "1970-01-01T23:59:59.250Z" == clock()
    assert "1970-01-01T00:00:01.000Z" == clock()
    assert time.strftime("%Y-%m-%d", time.gmtime()) == Clock()()[:10]


async def test_each_write_holds_whole_lines_for_other_processes_write_to_the_same_pipe(pipe, monkeypatch):
    written: list[bytes] = []
    write = os.write
    monkeypatch.setattr(access.os, "write", lambda file, data: written.append(bytes(data)) or write(file, data))
    lines = Lines(pipe[1])
    for number in range(40):
        lines.add(f"{number} " + "x" * 300)
    lines.flush()
    assert len(written) > 1
    assert all(len(chunk) <= access._PIECE and chunk.endswith(b"\n") for chunk in written)
    lines.add("y" * (access._PIECE + 10))
    lines.flush()
    assert [access._PIECE, 11] == [len(chunk) for chunk in written[-2:]]

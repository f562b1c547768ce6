"""One exchange with the backend http: connections, deadlines and streams."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from aiohttp import web

from adapters.backend.http import Config
from gateway.codec import Contract
from gateway.errors import CallerError, GatewayError, Outcome, Reason
from gateway.exchange import EndOfMessages, Memory
from gateway.message import JSON, NO_HEADERS, Many, Message
from gateway.status import outcome_of
from tests.adapters.backend.http_server import OK, WHOLE, asking, refused, saying, serving, target


class TestConnection:
    @pytest.mark.parametrize("call", ["PUT /", "DELETE /", "GET /"])
    async def test_a_request_that_may_have_left_is_never_sent_twice(self, call: str) -> None:
        async with saying(b"") as raw, Config(kind="http", url=raw.url).build() as backend:
            await refused(backend, target(call), asking())
        assert (1, 1) == (raw.connections, len(raw.requests))

    async def test_bytes_that_nobody_asked_for_answer_nobody(self) -> None:
        theirs = OK + b'content-length: 8\r\n\r\n"theirs"'
        async with saying(OK + WHOLE, then_close=False, late=theirs) as raw, Config(kind="http", url=raw.url).build() as backend:
            first, second = asking(), asking()
            await backend.handler(target("POST /"))(first)
            raw.again.set()
            await raw.said.wait()
            # Once round the loop for the bytes to be read by us.
            await backend.check()
            await backend.handler(target("POST /"))(second)
        assert [b"{}", b"{}"] == [first.replies[0].body, second.replies[0].body]

    async def test_a_connection_that_its_server_closed_is_not_the_callers_trouble(self) -> None:
        async with saying(OK + WHOLE) as raw, Config(kind="http", url=raw.url, keep_alive=60).build() as backend:
            memories = [asking() for _ in range(20)]
            for memory in memories:
                await backend.handler(target("POST /"))(memory)
        assert [[Message(b"{}", JSON)]] * 20 == [memory.replies for memory in memories]

    async def test_a_deadline_that_passes_while_waiting_for_a_connection_is_a_definite_failure(self) -> None:
        arrived = asyncio.Event()

        async def answer(_request: web.Request) -> web.Response:
            arrived.set()
            await asyncio.Event().wait()
            raise AssertionError("an event that nobody sets")

        async with (
            serving(answer) as url,
            Config(kind="http", url=url, connections=1).build() as backend,
            asyncio.TaskGroup() as group,
        ):
            handler = backend.handler(target("POST /"))
            holding = group.create_task(handler(asking()))
            await arrived.wait()
            error = await refused(backend, target("POST /"), asking(seconds=0.2))
            assert (Reason.TIMED_OUT, Outcome.FAILED) == (error.reason, outcome_of(error))
            holding.cancel()

    async def test_waiting_for_a_connection_is_bounded_in_time_and_number(self) -> None:
        arrived = asyncio.Event()

        async def answer(_request: web.Request) -> web.Response:
            arrived.set()
            await asyncio.Event().wait()
            raise AssertionError("an event that nobody sets")

        config = {"kind": "http", "connections": 1, "waiting": 1, "connect_timeout": 0.2}
        async with (
            serving(answer) as url,
            Config.model_validate({**config, "url": url}).build() as backend,
            asyncio.TaskGroup() as group,
        ):
            to = target("POST /")
            holding = group.create_task(backend.handler(to)(asking()))
            await arrived.wait()
            waiting = group.create_task(refused(backend, to, asking()))
            await asyncio.sleep(0)
            assert Reason.OVERLOADED == (await refused(backend, to, asking())).reason
            assert Reason.OVERLOADED == (await waiting).reason
            holding.cancel()

    async def test_a_deadline_that_has_passed_sends_nothing(self) -> None:
        async with saying(OK + WHOLE) as raw, Config(kind="http", url=raw.url).build() as backend:
            error = await refused(backend, target("POST /"), asking(seconds=0))
        assert (Reason.TIMED_OUT, Outcome.FAILED, 0) == (error.reason, outcome_of(error), raw.connections)

    async def test_an_answer_that_stalls_in_the_middle_is_unknown(self) -> None:
        async with (
            saying(OK + b"content-length: 10\r\n\r\n{", then_close=False) as raw,
            Config(kind="http", url=raw.url).build() as backend,
        ):
            error = await refused(backend, target("POST /"), asking(seconds=0.3))
        assert (Reason.UNKNOWN_OUTCOME, Outcome.UNKNOWN) == (error.reason, outcome_of(error))

    async def test_a_get_that_hangs_has_failed_for_certain(self) -> None:
        async with saying(b"", then_close=False) as raw, Config(kind="http", url=raw.url, timeout=0.2).build() as backend:
            memory = asking()
            memory.call = replace(memory.call, deadline=None)
            error = await refused(backend, target("GET /"), memory)
        assert (Reason.TIMED_OUT, Outcome.FAILED) == (error.reason, outcome_of(error))

    async def test_a_name_that_does_not_exist_is_unreachable(self) -> None:
        async with Config(kind="http", url="http://nobody.invalid").build() as backend:
            error = await refused(backend, target("POST /"), asking())
        assert (Reason.UNREACHABLE, Outcome.FAILED) == (error.reason, outcome_of(error))

    async def test_an_answer_before_the_whole_request_is_still_the_answer(self) -> None:
        async def answer(_request: web.Request) -> web.Response:
            return web.json_response({"why": "too large"}, status=413)

        async with serving(answer) as url, Config(kind="http", url=url).build() as backend:
            error = await refused(backend, target("POST /"), asking(b'"' + b"a" * 8_000_000 + b'"'))
        assert Reason.BACKEND_FAILED_PRECONDITION == error.reason

    async def test_no_body_where_every_call_has_a_reply_is_the_empty_one(self) -> None:
        async def answer(_request: web.Request) -> web.Response:
            return web.Response(status=204)

        nothing = Contract("shop.Items/Delete", request=None, reply=None, many=Many.NEITHER)  # type: ignore[arg-type]
        async with serving(answer) as url, Config(kind="http", url=url).build() as backend:
            memory = asking()
            await backend.handler(replace(target("DELETE /items/7"), contract=nothing))(memory)
        assert (NO_HEADERS, [Message(b"{}", JSON)]) == (memory.headers, memory.replies)


async def streamed(stream: str, *chunks: bytes, kind: str, end: bool = True) -> tuple[Memory, GatewayError | None]:
    """What a caller gets of a stream that comes in these chunks, and how it ended."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": kind})
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        if not end and request.transport is not None:
            request.transport.abort()
        return response

    async with serving(answer) as url, Config(kind="http", url=url, max_answer=1000).build() as backend:
        memory = asking()
        try:
            await backend.handler(target("GET /", stream=stream))(memory)
        except GatewayError as error:
            return memory, error
        return memory, None


class TestStream:
    async def test_an_event_is_a_message_and_its_id_the_cursor(self) -> None:
        chunks = (b"id: a\ndata: 1\n\n: beat\n\ndata: [2,\nda", b"ta: 3]\n\ndata: never ended")
        memory, error = await streamed("sse", *chunks, kind="text/event-stream; charset=utf-8")
        assert [Message(b"1", JSON, cursor="a"), Message(b"[2,\n3]", JSON, cursor="a")] == memory.replies
        assert error is None

    async def test_a_caller_that_comes_back_says_where_it_was(self) -> None:
        async def answer(request: web.Request) -> web.Response:
            event = f"data: {request.headers['last-event-id']}\n\n"
            return web.Response(text=event, content_type="text/event-stream")

        async with serving(answer) as url, Config(kind="http", url=url).build() as backend:
            memory = asking(headers={"last-event-id": "7"})
            await backend.handler(target("GET /", stream="sse"))(memory)
        assert [b"7"] == [message.body for message in memory.replies]

    async def test_a_line_is_a_message_and_the_last_need_not_end(self) -> None:
        memory, error = await streamed("ndjson", b'{"a"', b": 1}\r\n\n2\n", b"3", kind="application/x-ndjson")
        assert [Message(body, JSON) for body in (b'{"a": 1}', b"2", b"3")] == memory.replies
        assert error is None

    async def test_an_error_event_is_the_error_that_it_tells_of(self) -> None:
        memory, error = await streamed("sse", b'data: 1\n\nevent: error\ndata: {"status": 404}\n\n', kind="text/event-stream")
        assert ([Message(b"1", JSON)], Reason.BACKEND_NOT_FOUND) == (memory.replies, error and error.reason)

    async def test_an_error_event_of_a_safe_call_leaves_nothing_unknown(self) -> None:
        _, error = await streamed("sse", b'event: error\ndata: {"status": 500}\n\n', kind="text/event-stream")
        assert error is not None
        assert (Reason.BACKEND_INTERNAL, Outcome.FAILED) == (error.reason, outcome_of(error))

    @pytest.mark.parametrize("data", [b"oops", b"[]", b'{"status": "x"}', b"[" * 100_000])
    async def test_an_error_event_that_tells_nothing_is_an_error_still(self, data: bytes) -> None:
        _, error = await streamed("sse", b"event: error\ndata: " + data[:900] + b"\n\n", kind="text/event-stream")
        assert Reason.BACKEND_UNKNOWN == (error and error.reason)

    async def test_a_stream_that_breaks_off_never_ends_well(self) -> None:
        memory, error = await streamed("ndjson", b"1\n2\n", kind="application/x-ndjson", end=False)
        assert Reason.BAD_ANSWER == (error and error.reason)
        assert len(memory.replies) <= 2

    @pytest.mark.parametrize("stream", ["sse", "ndjson"])
    async def test_a_message_over_the_limit_is_a_bad_answer(self, stream: str) -> None:
        kind = "text/event-stream" if stream == "sse" else "application/x-ndjson"
        _, error = await streamed(stream, b"data: " + b"1" * 2000, b"\n\n", kind=kind)
        assert Reason.BAD_ANSWER == (error and error.reason)

    async def test_what_is_no_stream_is_a_bad_answer(self) -> None:
        memory, error = await streamed("sse", b"{}", kind="application/json")
        assert (None, Reason.BAD_ANSWER) == (memory.headers, error and error.reason)

    async def test_an_error_instead_of_a_stream_is_an_error(self) -> None:
        async def answer(_request: web.Request) -> web.Response:
            return web.json_response({}, status=403)

        async with serving(answer) as url, Config(kind="http", url=url).build() as backend:
            assert Reason.BACKEND_PERMISSION_DENIED == (await refused(backend, target("GET /", stream="sse"), asking())).reason

    async def test_a_stream_that_is_silent_outlasts_the_deadline_of_its_head(self) -> None:
        go_on = asyncio.Event()

        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"content-type": "application/x-ndjson"})
            await response.prepare(request)
            await go_on.wait()
            await response.write(b"1\n")
            return response

        async with serving(answer) as url, Config(kind="http", url=url).build() as backend, asyncio.TaskGroup() as group:
            memory = asking(seconds=0.3)
            running = group.create_task(backend.handler(target("GET /", stream="ndjson"))(memory))
            await asyncio.sleep(0.5)
            go_on.set()
            await running
        assert [Message(b"1", JSON)] == memory.replies

    async def test_the_server_waits_for_a_caller_that_does_not_read(self) -> None:
        written = 0
        stuck = asyncio.Event()

        async def answer(request: web.Request) -> web.StreamResponse:
            nonlocal written
            response = web.StreamResponse(headers={"content-type": "application/x-ndjson"})
            await response.prepare(request)
            line = b"1" * 65_535 + b"\n"
            while True:
                try:
                    async with asyncio.timeout(0.5):
                        await response.write(line)
                except TimeoutError:
                    stuck.set()
                    await asyncio.Event().wait()
                written += len(line)

        class Stalled(Memory):
            async def send(self, message: Message) -> None:
                await asyncio.Event().wait()

        async with serving(answer) as url, Config(kind="http", url=url).build() as backend, asyncio.TaskGroup() as group:
            running = group.create_task(backend.handler(target("GET /", stream="ndjson"))(Stalled(Message(b""))))
            await stuck.wait()
            running.cancel()
        assert written < 64 << 20

    async def test_a_caller_that_breaks_its_own_stream_is_told_so(self) -> None:
        async def answer(request: web.Request) -> web.Response:
            return web.json_response({"size": len(await request.read())})

        class Broken(Memory):
            async def receive(self) -> Message:
                try:
                    return await super().receive()
                except EndOfMessages:
                    raise CallerError(Reason.MALFORMED, "not JSON") from None

        async with serving(answer) as url, Config(kind="http", url=url).build() as backend:
            with pytest.raises(CallerError, match="not JSON"):
                await backend.handler(target("POST /", stream_requests=True))(Broken(Message(b"1", JSON)))

    async def test_the_lines_of_a_request_may_be_none(self) -> None:
        async def answer(request: web.Request) -> web.Response:
            return web.json_response([line.decode() async for line in request.content])

        async with serving(answer) as url, Config(kind="http", url=url).build() as backend:
            many, none = Memory(Message(b"1", JSON), Message(b"2", JSON)), Memory()
            handler = backend.handler(target("POST /", stream_requests=True))
            await handler(many)
            await handler(none)
        assert [[b'["1\\n", "2\\n"]'], [b"[]"]] == [[message.body for message in memory.replies] for memory in (many, none)]

    async def test_an_event_of_empty_lines_is_bounded_too(self) -> None:
        _, error = await streamed("sse", b"data\n" * 2000, kind="text/event-stream")
        assert Reason.BAD_ANSWER == (error and error.reason)

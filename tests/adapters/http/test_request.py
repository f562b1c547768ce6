"""What the backend http asks of its server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiohttp import web

from adapters.backend.http import Config
from gateway.errors import CallerError, Reason
from gateway.message import BYTES, JSON
from gateway.port import Backend
from tests.adapters.backend.http_server import asking, refused, serving, target


@pytest.fixture
async def seen() -> AsyncIterator[list[web.Request]]:
    return []


@pytest.fixture
async def backend(seen: list[web.Request]) -> AsyncIterator[Backend]:
    """One whose server notes every request, and answers with its body."""

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        seen.append(request)
        return web.json_response({})

    async with serving(answer) as url, Config(kind="http", url=url, headers={"X-Key": "k"}).build() as backend:
        yield backend


class TestRequest:
    async def test_a_variable_is_one_segment_whatever_it_holds(self, backend: Backend, seen: list[web.Request]) -> None:
        await backend.handler(target("POST /items/{sku}/stock"))(asking(sku="a/b?c#d e%2F\u00e9"))
        assert "/items/a%2Fb%3Fc%23d%20e%252F%C3%A9/stock" == seen[0].raw_path

    async def test_a_variable_that_the_path_lacks_is_a_field_of_the_message(
        self, backend: Backend, seen: list[web.Request]
    ) -> None:
        await backend.handler(target("GET /items/{sku}/{quantity}"))(asking(b'{"sku": "tea", "quantity": 2}'))
        assert "/items/tea/2" == seen[0].raw_path

    async def test_a_rest_variable_keeps_its_slashes_and_the_ones_that_were_escaped(
        self, backend: Backend, seen: list[web.Request]
    ) -> None:
        await backend.handler(target("GET /files/{path=**}"))(asking(path="a b/c%2Fd"))
        assert "/files/a%20b/c%2Fd" == seen[0].raw_path

    @pytest.mark.parametrize("value", ["", ".", ".."])
    async def test_a_variable_cannot_change_which_resource_is_named(
        self, backend: Backend, seen: list[web.Request], value: str
    ) -> None:
        error = await refused(backend, target("DELETE /items/{sku}"), asking(sku=value))
        assert (Reason.MALFORMED, []) == (error.reason, seen)
        assert isinstance(error, CallerError)

    async def test_a_rest_variable_cannot_climb(self, backend: Backend, seen: list[web.Request]) -> None:
        error = await refused(backend, target("GET /files/{path=**}"), asking(path="a/../../etc"))
        assert (Reason.MALFORMED, []) == (error.reason, seen)

    async def test_a_field_that_is_missing_is_the_callers_fault(self, backend: Backend) -> None:
        error = await refused(backend, target("GET /items/{sku}"), asking(b"{}"))
        assert Reason.MALFORMED == error.reason

    async def test_a_query_leaves_out_what_is_absent_and_repeats_a_list(self, backend: Backend, seen: list[web.Request]) -> None:
        query = {"limit": "{limit}", "tag": "{tags}", "by": "x-{sku}", "after": "{after}"}
        await backend.handler(target("GET /items", query=query))(asking(b'{"tags": ["a&b", "c"], "after": 0}', sku="\u00e9"))
        assert "/items?tag=a%26b&tag=c&by=x-%C3%A9&after=0" == seen[0].raw_path

    async def test_the_base_path_comes_first(self, seen: list[web.Request]) -> None:
        async def answer(request: web.Request) -> web.Response:
            seen.append(request)
            return web.json_response({})

        async with serving(answer) as url, Config(kind="http", url=url + "/v2/").build() as backend:
            await backend.handler(target("GET /items", query={"a": "1"}))(asking())
            await backend.handler(target("GET /items"))(asking())
        assert ["/v2/items?a=1", "/v2/items"] == [request.raw_path for request in seen]

    async def test_only_listed_headers_of_the_caller_go_on(self, backend: Backend, seen: list[web.Request]) -> None:
        caller = {
            "accept-language": "de",
            "traceparent": "00-1",
            "authorization": "Bearer secret",
            "cookie": "a=b",
            "host": "evil",
            "user-agent": "curl",
            "x-request-id": "theirs",
        }
        memory = asking(headers=caller)
        await backend.handler(target("POST /items"))(memory)
        headers = seen[0].headers
        assert ("de", "00-1", "k", memory.call.id, "polygate") == (
            headers["accept-language"],
            headers["traceparent"],
            headers["x-key"],
            headers["x-request-id"],
            headers["user-agent"],
        )
        assert {"authorization", "cookie"}.isdisjoint(name.lower() for name in headers)
        assert "evil" != headers["host"]

    async def test_a_header_goes_on_where_the_route_lists_it(self, backend: Backend, seen: list[web.Request]) -> None:
        to = target("GET /items", forward=["Authorization", "user-agent"], headers={"X-Tenant": "t-{tenant}"})
        await backend.handler(to)(asking(headers={"authorization": "Bearer secret", "user-agent": "curl"}, tenant="ada"))
        headers = seen[0].headers
        assert ("Bearer secret", "curl", "t-ada") == (headers["authorization"], headers["user-agent"], headers["x-tenant"])

    async def test_a_header_cannot_be_broken_out_of(self, backend: Backend, seen: list[web.Request]) -> None:
        error = await refused(backend, target("GET /items", headers={"x-tenant": "{t}"}), asking(t="a\r\nx-admin: 1"))
        assert (Reason.MALFORMED, []) == (error.reason, seen)

    @pytest.mark.parametrize("method", ["GET", "DELETE"])
    async def test_a_method_without_a_body_sends_none(self, backend: Backend, seen: list[web.Request], method: str) -> None:
        await backend.handler(target(f"{method} /items"))(asking(b'{"a": 1}'))
        assert (b"", None) == (await seen[0].read(), seen[0].headers.get("content-type"))

    async def test_a_body_goes_with_the_targets_type(self, backend: Backend, seen: list[web.Request]) -> None:
        await backend.handler(target("PUT /items"))(asking(b'{"a": 1}'))
        assert (b'{"a": 1}', JSON) == (await seen[0].read(), seen[0].headers["content-type"])

    async def test_opaque_bytes_keep_the_callers_type(self, backend: Backend, seen: list[web.Request]) -> None:
        to = replace(target("POST /items", format="bytes"), content_type=BYTES)
        await backend.handler(to)(asking(b"\0\1", "image/png"))
        assert (b"\0\1", "image/png") == (await seen[0].read(), seen[0].headers["content-type"])

    async def test_a_large_body_arrives_whole(self, backend: Backend, seen: list[web.Request]) -> None:
        body = b'"' + b"a" * 900_000 + b'"'
        await backend.handler(target("POST /items"))(asking(body))
        assert (body, str(len(body))) == (await seen[0].read(), seen[0].headers["content-length"])

"""The listener `admin`: is it alive, is it ready, what does it count, what does it serve. For operators, never for callers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, ClassVar, Literal

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from pydantic import Field

from adapters.ingress.admin.page import File, body, files, headers, policy
from gateway.bind import Address, Bind
from gateway.errors import GatewayError
from gateway.exposition import METRICS_TYPE, metrics
from gateway.listener import ListenerConfig, View
from gateway.ready import readiness

BACKLOG = 128
RELOAD = "/reload"
_STATUS = {"changed": 200, "unchanged": 200, "refused": 422, "busy": 409, "stopping": 503}
_FROM_PAGES = frozenset({"origin", "referer", "sec-fetch-site"})
"""What a browser says of a page that asks: with POST always one of them (Fetch Standard 3.2, Fetch Metadata)."""
_HEADERS = {"Server": "polygate", "Cache-Control": "no-store"}


class Config(ListenerConfig):
    """Liveness, readiness, metrics, routes and the documents of what is served, over HTTP; and loading the config anew."""

    inherits: ClassVar[bool] = True

    kind: Literal["admin"]
    bind: Bind
    """host:port to listen on; not an address that callers reach."""
    check_seconds: float = Field(default=2.0, gt=0)
    """How long a backend has to say that it is ready."""

    def build(self, name: str, view: View) -> Admin:
        return Admin(self, name, view)


class Admin:
    """See `Ingress`."""

    def __init__(self, config: Config, name: str, view: View) -> None:
        self._config = config
        self._name = name
        self._view = view
        self._pages = {
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/metrics": self._metrics,
            "/routes": self._routes,
            "/contracts": self._contracts,
        }

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Address]:
        server = _Server(self._handle)
        runner = web.ServerRunner(server, shutdown_timeout=0.5)
        await runner.setup()
        try:
            for one in self._view.listen(self._name, self._config.bind, BACKLOG):
                await web.SockSite(runner, one).start()
            bound = runner.addresses[0]
            yield Address(bound[0], bound[1])
        finally:
            await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except GatewayError as error:
            return _json({"error": error.message}, status=503)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == RELOAD:
            return await self._reload(request)
        page = self._pages.get(request.path)
        file = files().get(request.path) if request.path.startswith("/docs") else None
        document = self._view.documents.get(request.path)
        if page is None and file is None and document is None:
            return _json({"pages": sorted((*self._pages, *self._view.documents, "/docs", RELOAD))}, status=404)
        if request.method not in {"GET", "HEAD"}:
            return web.Response(status=405, headers={**_HEADERS, "Allow": "GET, HEAD"})
        if file is not None:
            return self._file(request, file)
        if document is not None:
            return web.Response(
                body=await asyncio.to_thread(document.body), headers={**_HEADERS, "Content-Type": document.content_type}
            )
        assert page is not None  # noqa: S101  one of the three is there
        return await page()

    async def _reload(self, request: web.BaseRequest) -> web.Response:
        """Load the config anew. A browser tells of every page that lets it do so: no page may, whoever reads it."""
        if request.method != "POST":
            return web.Response(status=405, headers={**_HEADERS, "Allow": "POST"})
        if _FROM_PAGES & {name.lower() for name in request.headers}:
            return _json({"error": "a page in a browser may not do that"}, status=403)
        everybody = self._view.everybody
        reload = self._view.reload if everybody is None else everybody.reload
        if reload is None:
            return _json({"error": "this gateway was not started from a config that could be loaded anew"}, status=404)
        told = await reload()
        body: dict[str, object] = {"outcome": told.outcome}
        if told.outcome == "refused":
            body["problems"] = list(told.problems)
        else:
            body |= told.changes
        return _json(body, status=_STATUS[told.outcome])

    def _file(self, request: web.BaseRequest, file: File) -> web.Response:
        takes_gzip = "gzip" in request.headers.get("Accept-Encoding", "")
        told = headers(file, takes_gzip=takes_gzip, content_policy=policy(self._view.servers()))
        return web.Response(body=body(file, takes_gzip=takes_gzip), headers={**_HEADERS, **told})

    async def _livez(self) -> web.Response:
        """The process answers: nothing else is asked, so that a broker's outage restarts nobody."""
        return _json({"status": "alive"})

    async def _readyz(self) -> web.Response:
        seconds, everybody = self._config.check_seconds, self._view.everybody
        told = await (readiness(self._view, seconds) if everybody is None else everybody.readiness(seconds))
        return _json(dict(told), status=200 if told["ready"] else 503)

    async def _metrics(self) -> web.Response:
        everybody = self._view.everybody
        body = metrics() if everybody is None else await everybody.metrics()
        return web.Response(body=body, headers={**_HEADERS, "Content-Type": METRICS_TYPE})

    async def _routes(self) -> web.Response:
        return _json({"routes": list(self._view.routes)})

    async def _contracts(self) -> web.Response:
        """What each file of the contracts came to when it was loaded, for `polygate check --running`."""
        return _json({"contracts": dict(self._view.contracts.digests)})


class _Connection(RequestHandler):
    """One operator's connection."""

    __slots__ = ()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The library's own page would name it, and echo the request."""
        del request, message
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            self.log_exception("the admin listener failed", exc_info=exc)
        answer = _json({"error": HTTPStatus(status).phrase}, status=status)
        answer.force_close()
        return answer


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        settings: dict[str, Any] = {"access_log": None, "keepalive_timeout": 75.0}
        return _Connection(self, loop=self._loop, **settings)


def _json(body: dict[str, object], *, status: int = 200) -> web.Response:
    return web.json_response(body, status=status, headers=_HEADERS)

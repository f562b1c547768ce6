"""A browser's question whether a page may make a call (WHATWG Fetch, "CORS-preflight request")."""

from __future__ import annotations

from adapters.ingress.rest import plain
from adapters.ingress.rest.asked import Asked
from adapters.ingress.rest.exchange import HttpExchange, RestExchange
from gateway.exchange import Exchange
from gateway.listener import View
from gateway.route import Endpoint

_ASKS = "access-control-request-method"


class Preflight:
    """See `HttpProtocol`: answered by what marks the answers of the route that it asks about, before all else of that route."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._plain = plain.Plain(view)

    def matches(self, asked: Asked) -> bool:
        return asked.method == "OPTIONS" and asked.headers.get(_ASKS) is not None and asked.headers.get("origin") is not None

    def open(self, asked: Asked) -> tuple[HttpExchange, Endpoint]:
        method = asked.headers.get(_ASKS)
        targets = ((plain.PROTOCOL, f"{method} {asked.path}"), ("connect", asked.path), ("grpc_web", asked.path))
        for protocol, target in targets:
            found = asked.find(self._view, protocol, target)
            around = found.endpoint.around
            if found.error is None and around is not None:
                call = asked.call(protocol, f"OPTIONS {asked.path}", {})
                exchange = RestExchange(call, asked.request, asked.limits)
                return exchange, Endpoint(found.endpoint.route, around(_nothing))
        return self._plain.open(asked)


async def _nothing(_exchange: Exchange) -> None:
    """What marks answers has answered."""

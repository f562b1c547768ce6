"""How a request becomes a conversation: what it calls, and what the two sides agree on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from websockets.http11 import Request

from adapters.grpc.timeout import NAME, seconds_of
from adapters.ingress.websocket.enveloped import Enveloped
from adapters.ingress.websocket.exchange import Conversation
from adapters.ingress.websocket.framing import Terms
from adapters.ingress.websocket.handshake import check, headers_of, split_target, subprotocols
from adapters.ingress.websocket.wire import Wire
from adapters.websocket.envelope import SUBPROTOCOL
from gateway.errors import Allowed, CallerError, GatewayError, Reason
from gateway.exchange import Call, Handler, new_id
from gateway.listener import View
from gateway.message import JSON, PROTOBUF, Headers, Many
from gateway.route import Endpoint, Found

_ACCEPTS = {"json": JSON, "protobuf": PROTOBUF}


class Opening:
    """Opens the conversations of a listener. Refusals are conversations too, so that they are observed like the rest."""

    def __init__(self, view: View, terms: Terms, origins: Sequence[str]) -> None:
        self._view = view
        self._terms = terms
        self._origins = origins

    def talk(self, wire: Wire, request: Request) -> tuple[Conversation, Handler]:
        """The conversation that a request begins, and what it is to be started with."""
        found: Found | None = None
        target = request.path.partition("?")[0]
        headers = headers_of(request)
        query: tuple[tuple[str, str], ...] = ()
        seconds: float | None = None
        try:
            check(request, self._origins)
            target, query = split_target(request.path)
            seconds = seconds_of(headers.get(NAME))
            found = self._view.find("websocket", target, headers, query)
            endpoint = found.endpoint
        except GatewayError as error:
            endpoint = self._view.refuse("websocket", error)
        agreed = ""
        if found is not None and found.error is None:
            agreed = self._agreed(request)
            endpoint = self._speaking(endpoint, agreed)
        deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
        call = Call(
            id=new_id(),
            protocol="websocket",
            target=target,
            headers=headers,
            params=found.params if found else {},
            query=query,
            many=endpoint.many if agreed == SUBPROTOCOL else Many.BOTH,
            deadline=deadline,
            expires=deadline,
            peer=str(wire.remote_address[0]) if wire.remote_address else "",
            accepts=_ACCEPTS.get(agreed, ""),
            each=endpoint.each,
        )
        terms = self._terms
        if agreed == SUBPROTOCOL:
            return Enveloped(wire, call, terms.binary, terms.open_timeout, terms.close_timeout), endpoint.handler
        return Conversation(wire, call, terms.close_timeout), endpoint.handler

    def _agreed(self, request: Request) -> str:
        """The first of our subprotocols that the caller offers; "" for none."""
        offered = subprotocols(Headers((name.lower(), value) for name, value in request.headers.raw_items()))
        return next((name for name in self._terms.subprotocols if name in offered), "")

    def _speaking(self, endpoint: Endpoint, agreed: str) -> Endpoint:
        """The endpoint, unless it cannot be called by what was agreed on."""
        if endpoint.many is not Many.REQUESTS or agreed == SUBPROTOCOL:
            return endpoint
        text = f"this method replies once all requests are sent, which a WebSocket can say by the subprotocol {SUBPROTOCOL} alone"
        return self._view.refuse("websocket", CallerError(Reason.UPGRADE_REQUIRED, text, details=(Allowed((SUBPROTOCOL,)),)))

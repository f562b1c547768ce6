"""A plain REST request: method, path and query name the route, `Accept` the form of the answer."""

from __future__ import annotations

import asyncio
from functools import partial

from adapters.grpc.timeout import NAME, seconds_of
from adapters.ingress.rest.asked import Asked, refusing
from adapters.ingress.rest.batch import batched, holds_many
from adapters.ingress.rest.body import Body
from adapters.ingress.rest.connect import STREAM_TYPES, UNARY_TYPES
from adapters.ingress.rest.exchange import HttpExchange, OptionsExchange, RawExchange, RestExchange, StreamExchange
from adapters.ingress.rest.grpc_web import TYPES
from adapters.ingress.rest.request import METHODS, choose, media_type
from gateway.errors import Allowed, CallerError, GatewayError, Reason
from gateway.exchange import Call
from gateway.framing import SSE
from gateway.listener import View
from gateway.message import JSON, Many
from gateway.route import Endpoint, Found
from gateway.status import allowed

PROTOCOL = "rest"
_ALL = tuple(sorted(METHODS))
OWN_TYPES = frozenset({"application/json", "application/proto", "application/x-protobuf", "application/protobuf"})
SERVED = (*TYPES, *STREAM_TYPES, *UNARY_TYPES)
# What a page may send to any site without asking it first (WHATWG Fetch, "CORS-safelisted request-header"), beside no type.
_SIMPLE = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")
_OVERRIDE = "x-http-method-override"
_OVERRIDING = METHODS - {"HEAD", "OPTIONS"}


class Plain:
    """See `HttpProtocol`: what no other protocol is."""

    def __init__(self, view: View) -> None:
        self._view = view

    def matches(self, asked: Asked) -> bool:
        del asked
        return True

    def open(self, asked: Asked) -> tuple[HttpExchange, Endpoint]:
        if asked.path == "*":  # RFC 9110 9.3.7: what the server as a whole can do; check_head lets it through for OPTIONS alone
            return OptionsExchange(asked.call(PROTOCOL, "OPTIONS *", {}), asked.request, _ALL), Endpoint("-", _nothing)
        method, found = self._find(asked)
        target = f"{method} {asked.path}"
        endpoint = found.endpoint
        if found.error is not None:
            return self._missed(asked, method, endpoint, found.error)
        accept = asked.headers.joined("accept")
        many = Many.REPLIES if endpoint.awaited and _awaits(accept, endpoint) else endpoint.many
        # `&` of flags costs a microsecond; their members are single objects.
        streams = many is Many.REPLIES or many is Many.BOTH
        try:
            if asked.method == "POST" and endpoint.around is None and (not asked.kind or asked.kind.startswith(_SIMPLE)):
                check_origin(asked)
            if endpoint.batch is not None and holds_many(asked.kind, endpoint.batch):
                called = partial(asked.call, PROTOCOL, target, found.params, query=asked.query)
                return batched(asked, called, endpoint, endpoint.batch, partial(refusing, self._view, PROTOCOL, endpoint))
            accepts = "" if streams and endpoint.raw else choose(accept, endpoint.offers, streams)
            seconds = seconds_of(asked.headers.get(NAME))
            body = Body(asked, raw=endpoint.uploads) if many is Many.REQUESTS or many is Many.BOTH else None
        except GatewayError as refusal:
            call = asked.call(PROTOCOL, target, {})
            return _exchange(RestExchange, call, asked), refusing(self._view, PROTOCOL, endpoint, refusal)
        snapshot = streams and accepts == JSON
        call = asked.call(
            PROTOCOL,
            target,
            found.params,
            query=asked.query,
            many=many,
            deadline=None if seconds is None else asyncio.get_running_loop().time() + seconds,
            accepts=accepts,
            snapshot=snapshot,
        )
        exchange = _exchange((RawExchange if endpoint.raw else StreamExchange) if streams else RestExchange, call, asked)
        exchange.body = body
        exchange.raw = endpoint.uploads
        # A stream has no length to tell: its head says all that there is to say of it.
        return exchange, Endpoint(endpoint.route, _nothing) if streams and method == "HEAD" else endpoint

    def _missed(self, asked: Asked, method: str, endpoint: Endpoint, error: GatewayError) -> tuple[HttpExchange, Endpoint]:
        """What answers a call that no route has."""
        call = asked.call(PROTOCOL, f"{method} {asked.path}", {}, query=asked.query)
        if method == "POST" and asked.kind and error.reason is Reason.NOT_FOUND and (refusal := self._misspoken(asked)):
            return _exchange(RestExchange, call, asked), self._view.refuse(PROTOCOL, refusal)
        if method == "OPTIONS" and error.reason is Reason.WRONG_METHOD:
            return OptionsExchange(call, asked.request, allowed(error)), Endpoint(endpoint.route, _nothing)
        return _exchange(RestExchange, call, asked), endpoint

    def _misspoken(self, asked: Asked) -> GatewayError | None:
        """A gRPC method that is called in a media type of no protocol. In JSON or protobuf it is a REST call without a route."""
        if media_type(asked.kind) in OWN_TYPES or asked.find(self._view, "connect", asked.path).error is not None:
            return None
        return CallerError(Reason.UNSUPPORTED, "no protocol has this media type", details=(Allowed(SERVED),))

    def _find(self, asked: Asked) -> tuple[str, Found]:
        """The method and its route. A POST may say another one in a header, where the route of that one takes it so."""
        method = asked.method
        if method == "POST" and (other := asked.headers.get(_OVERRIDE)) in _OVERRIDING:
            found = asked.find(self._view, PROTOCOL, f"{other} {asked.path}")
            if found.error is None and found.endpoint.method_override:
                return other, found
        return method, asked.find(self._view, PROTOCOL, f"{method} {asked.path}")


def _exchange(kind: type[RestExchange], call: Call, asked: Asked) -> RestExchange:
    return kind(call, asked.request, asked.limits)


def _awaits(accept: str, endpoint: Endpoint) -> bool:
    """Whether a caller wants to wait for the one reply: it takes an event stream rather than the reply as it is."""
    return SSE in accept.lower() and choose(accept, (*(endpoint.offers or (JSON,)), SSE), False) == SSE


def check_origin(asked: Asked) -> None:
    """Browsers send such calls to any site without asking it first, so those of another site's page are refused."""
    origin = asked.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != (asked.headers.get("host") or "").lower():
        raise CallerError(
            Reason.FORBIDDEN, "what pages of other sites send without asking is not taken here; a cors policy may allow it"
        )


async def _nothing(_exchange: object) -> None:
    """OPTIONS, and HEAD of a stream, ask for nothing but a head."""

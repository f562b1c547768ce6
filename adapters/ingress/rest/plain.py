"""A plain REST request: method, path and query name the route, `Accept` the form of the answer."""

from __future__ import annotations

from adapters.ingress.rest.asked import Asked
from adapters.ingress.rest.exchange import HttpExchange, OptionsExchange, RestExchange, StreamExchange
from adapters.ingress.rest.request import METHODS, choose
from gateway.errors import GatewayError, Reason
from gateway.exchange import Call
from gateway.message import JSON, Many
from gateway.port import View
from gateway.route import Endpoint
from gateway.status import allowed

PROTOCOL = "rest"
_ALL = tuple(sorted(METHODS))


class Plain:
    """See `Protocol`: what no other protocol is."""

    def __init__(self, view: View) -> None:
        self._view = view

    def matches(self, asked: Asked) -> bool:
        del asked
        return True

    def open(self, asked: Asked) -> tuple[HttpExchange, Endpoint]:
        method = asked.method
        target = f"{method} {asked.path}"
        if asked.path == "*":  # RFC 9110 9.3.7: what the server as a whole can do; check_head lets it through for OPTIONS alone
            return OptionsExchange(asked.call(PROTOCOL, target, {}), asked.request, _ALL), Endpoint("-", _nothing)
        found = asked.find(self._view, PROTOCOL, target)
        endpoint, error = found.endpoint, found.error
        if error is not None:
            call = asked.call(PROTOCOL, target, {}, query=asked.query)
            if method == "OPTIONS" and error.reason is Reason.WRONG_METHOD:
                return OptionsExchange(call, asked.request, allowed(error)), Endpoint(endpoint.route, _nothing)
            return _exchange(RestExchange, call, asked), endpoint
        streams = endpoint.many is not Many.NEITHER
        try:
            accepts = choose(asked.headers.joined("accept"), endpoint.offers, streams)
        except GatewayError as refusal:
            return _exchange(RestExchange, asked.call(PROTOCOL, target, {}), asked), self._view.refuse(PROTOCOL, refusal)
        many, snapshot = (Many.REPLIES, accepts == JSON) if streams else (Many.NEITHER, False)
        call = asked.call(PROTOCOL, target, found.params, query=asked.query, many=many, accepts=accepts, snapshot=snapshot)
        if not streams:
            return _exchange(RestExchange, call, asked), endpoint
        # A stream has no length to tell: its head says all that there is to say of it.
        answering = Endpoint(endpoint.route, _nothing) if method == "HEAD" else endpoint
        return _exchange(StreamExchange, call, asked), answering


def _exchange(kind: type[RestExchange], call: Call, asked: Asked) -> RestExchange:
    return kind(call, asked.request, asked.limits.body, asked.limits.seconds)


async def _nothing(_exchange: object) -> None:
    """OPTIONS, and HEAD of a stream, ask for nothing but a head."""

"""A request's head, read once and checked, before anybody knows which protocol it speaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp.web import BaseRequest

from gateway.errors import GatewayError
from gateway.exchange import Call, new_id
from gateway.listener import View
from gateway.message import Headers, Many, value
from gateway.route import Endpoint, Found, refusal


@dataclass(frozen=True, slots=True)
class Limits:
    """What the listener's config says of bodies."""

    body: int
    """The largest message, unpacked."""
    seconds: float
    """Within which it must come."""
    compress_from: int
    """Replies so large are compressed, where a protocol has that and the caller takes it."""
    heartbeat: float = 15.0
    """Seconds of silence in a stream after which it shows that it is alive."""


@value
class Asked:
    """What a caller has asked, as far as its head says."""

    request: BaseRequest
    headers: Headers
    path: str
    """As it came, still percent-encoded."""
    query: tuple[tuple[str, str], ...]
    peer: str
    limits: Limits
    kind: str
    """Its Content-Type, lower-cased, parameters included."""

    @property
    def method(self) -> str:
        """The HTTP method."""
        return self.request.method

    def find(self, view: View, protocol: str, target: str) -> Found:
        """The route of what is asked, read as a call of a protocol."""
        return view.find(protocol, target, self.headers, self.query)

    def call(  # noqa: PLR0913  what a call is made of
        self,
        protocol: str,
        target: str,
        params: Mapping[str, str],
        *,
        headers: Headers | None = None,
        query: tuple[tuple[str, str], ...] = (),
        many: Many = Many.NEITHER,
        deadline: float | None = None,
        accepts: str = "",
        snapshot: bool = False,
    ) -> Call:
        """The call that it is. `deadline`: by when the caller gives up."""
        shown = self.headers if headers is None else headers
        return Call(
            new_id(), protocol, target, shown, params, query, many, deadline, None, self.peer, accepts, snapshot, expires=deadline
        )


def refusing(view: View, protocol: str, endpoint: Endpoint, error: GatewayError) -> Endpoint:
    """What answers a call with an error of our own: marked and observed as the route's answers are, where it has such marks."""
    if endpoint.around is None:
        return view.refuse(protocol, error)
    return Endpoint(endpoint.route, endpoint.around(refusal(error)))

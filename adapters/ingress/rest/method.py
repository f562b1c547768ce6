"""How a request becomes a call of a gRPC method: the same steps for every protocol that carries one over HTTP/1.1."""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from adapters.ingress.rest.asked import Asked, refusing
from adapters.ingress.rest.exchange import HttpExchange, RestExchange
from gateway.errors import Allowed, CallerError, Reason
from gateway.exchange import Call
from gateway.listener import View
from gateway.message import JSON, PROTOBUF, Headers, Many
from gateway.route import Endpoint

CODECS = {"json": JSON, "proto": PROTOBUF}
ENCODINGS = ("identity", "gzip")
# What belongs to these protocols themselves: a backend is told the same by its own wire.
_OWN = re.compile(r"(?:connect|grpc)-|(?:x-grpc-web|x-user-agent)\Z")


@dataclass(frozen=True, slots=True)
class Method:
    """What is known of the method that is called."""

    known: bool
    """It has a route."""
    many: Many
    """Which sides of it stream, as its callers know it; a route without a contract says it by its own shape."""
    safe: bool
    """It changes nothing, so that GET may call it."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a request's head says of how it is to be carried out."""

    seconds: float | None = None
    """How long the caller waits."""
    unpack: bool = False
    """Its messages may be compressed."""
    body: bytes = b""
    """The message, where the head has it."""


NO_TERMS = Terms()


class RpcProtocol(ABC):
    """One such protocol."""

    name: ClassVar[str]
    """As `call.protocol` has it."""

    def __init__(self, view: View) -> None:
        self._view = view

    @abstractmethod
    def matches(self, asked: Asked) -> bool:
        """Whether a request speaks it, by its head alone."""

    @abstractmethod
    def codec(self, asked: Asked, method: Method) -> str:
        """How the messages are written: JSON or PROTOBUF. CallerError for a request that the protocol does not have: its answer
        is plain HTTP.
        """

    @abstractmethod
    def terms(self, asked: Asked) -> Terms:
        """CallerError, answered as the protocol answers, where the head says what makes no sense."""

    @abstractmethod
    def exchange(self, call: Call, asked: Asked, method: Method, terms: Terms) -> HttpExchange:
        """The exchange of a call. `call.accepts` is the codec."""

    def open(self, asked: Asked) -> tuple[HttpExchange, Endpoint]:
        """See `HttpProtocol`."""
        view, path = self._view, asked.path
        found = asked.find(view, self.name, path)
        endpoint, contract = found.endpoint, view.contracts.methods.get(path[1:])
        known = found.error is None
        many = endpoint.many if contract is None else contract.many
        method = Method(known, many, contract is not None and contract.safe)
        try:
            codec = self.codec(asked, method)
        except CallerError as error:
            call = asked.call(self.name, path, {})
            return RestExchange(call, asked.request, asked.limits), self._refusing(endpoint, error)
        terms = NO_TERMS
        try:
            terms = self.terms(asked)
        except CallerError as error:
            endpoint = self._refusing(endpoint, error)
        deadline = None if terms.seconds is None else asyncio.get_running_loop().time() + terms.seconds
        call = asked.call(
            self.name,
            path,
            found.params,
            headers=Headers(pair for pair in asked.headers if not _OWN.match(pair[0])),
            many=endpoint.many,
            deadline=deadline,
            accepts=codec,
        )
        return self.exchange(call, asked, method, terms), endpoint

    def _refusing(self, endpoint: Endpoint, error: CallerError) -> Endpoint:
        return refusing(self._view, self.name, endpoint, error)


def wrong_method(*methods: str) -> CallerError:
    """The HTTP method is another one."""
    return CallerError(Reason.WRONG_METHOD, f"this call is made by {' or '.join(methods)}", details=(Allowed(methods),))


def wrong_type(*served: str) -> CallerError:
    """The media type is another one."""
    return CallerError(Reason.UNSUPPORTED, "this call has another media type", details=(Allowed(served),))


def packing(name: str, declared: str | None) -> bool:
    """Whether requests are compressed, by the header that says so."""
    encoding = (declared or "").strip().lower()
    if encoding not in {"", *ENCODINGS}:
        raise CallerError(Reason.UNSUPPORTED_ENCODING, f"{name} may be {' or '.join(ENCODINGS)}")
    return encoding == "gzip"

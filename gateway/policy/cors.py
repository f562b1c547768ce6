"""Which pages may call from a browser (WHATWG Fetch, "CORS protocol")."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from gateway.errors import AnswerHeaders, CallerError, Detail, GatewayError, HttpAnswer, Reason
from gateway.exchange import Call, Exchange, Handler
from gateway.message import NO_HEADERS, Headers
from gateway.part import Written
from gateway.policy import Guard, Policy, PolicyConfig
from gateway.policy.headers import HEADER_NAME, Answered

ANY = "*"
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]

METHODS: tuple[Method, ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
# What REST, Connect and gRPC-Web callers send (connectrpc.com/docs/cors).
ASKED = (
    "accept",
    "authorization",
    "connect-accept-encoding",
    "connect-content-encoding",
    "connect-protocol-version",
    "connect-timeout-ms",
    "content-encoding",
    "content-type",
    "grpc-accept-encoding",
    "grpc-encoding",
    "grpc-timeout",
    "last-event-id",
    "traceparent",
    "tracestate",
    "x-grpc-web",
    "x-requested-with",
    "x-user-agent",
)
# What they read of an answer, beside its body.
TOLD = (
    "allow",
    "connect-content-encoding",
    "content-encoding",
    "grpc-encoding",
    "grpc-message",
    "grpc-status",
    "grpc-status-details-bin",
    "location",
    "retry-after",
    "trailer-x-reason",
    "www-authenticate",
    "x-reason",
    "x-request-id",
)
_ORIGIN = (
    r"^(\*|null|[a-z][a-z0-9+.-]*://(\*\.)?[a-z0-9._-]+(:(\d{1,5}|\*))?|[a-z][a-z0-9+.-]*://\[[0-9a-f:]+\](:(\d{1,5}|\*))?)$"
)
_ORIGINS = "https://shop.example, https://*.shop.example (one label), http://localhost:* (any port), null, or * for every origin"
Origin = Annotated[str, Field(max_length=253), Written(_ORIGIN, _ORIGINS)]
Name = Annotated[str, HEADER_NAME, AfterValidator(str.lower)]


class Config(PolicyConfig):
    """Let pages of other origins call, and read what they are answered: REST, Connect and gRPC-Web alike.

    It runs before all that could refuse a call, so that every answer can be read, and answers preflights by itself. Calls of an
    origin that is not among `origins` are refused (403); calls without an origin, and those of the gateway's own, are not its
    business.
    """

    marks: ClassVar[bool] = True
    refuses: ClassVar[tuple[Reason, ...]] = (Reason.FORBIDDEN,)

    kind: Literal["cors"] = "cors"
    origins: tuple[Origin, ...] = Field(min_length=1, max_length=100, examples=[["https://shop.example"]])
    """Who may call: scheme, host and port as the browser writes them. `*` alone is everybody; a label or a port may be `*`."""
    methods: tuple[Method, ...] = Field(default=METHODS, min_length=1)
    """What they may call by, as far as there are routes."""
    request_headers: tuple[Name, ...] = Field(default=(), max_length=100, examples=[["x-tenant"]])
    """Headers that they may send beside those of the protocols (content-type, authorization, connect-timeout-ms, ...)."""
    exposed_headers: tuple[Name, ...] = Field(default=(), max_length=100, examples=[["x-shelf", "trailer-x-shelf"]])
    """Headers of answers that they may read beside those of the protocols. Without `credentials` they may read all."""
    credentials: bool = False
    """Whether they may send cookies and client certificates. Not with the origin `*`."""
    max_age: int = Field(default=7200, ge=0, le=86_400)
    """Seconds for which a browser remembers the answer to a preflight."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if ANY in self.origins and len(self.origins) > 1:
            raise ValueError("origins: * is everybody, so nobody else can stand beside it")
        if ANY in self.origins and self.credentials:
            raise ValueError("credentials: not with the origin *, which would let every page act as its user; name the origins")
        return self

    def build(self, route: str, protocol: str) -> Policy:
        del route, protocol
        return Cors(self)


class Cors:
    """Marks every answer to a page that may call."""

    guards = Guard.CALL

    def __init__(self, config: Config) -> None:
        self._any = ANY in config.origins
        self._exact = frozenset(origin for origin in config.origins if ANY not in origin)
        patterns = [_pattern(origin) for origin in config.origins if ANY in origin and origin != ANY]
        self._pattern = re.compile("|".join(patterns)) if patterns else None
        exposed = ", ".join((*TOLD, *config.exposed_headers)) if config.credentials else ANY
        credentials = (("access-control-allow-credentials", "true"),) if config.credentials else ()
        self._shown = (*credentials, ("access-control-expose-headers", exposed))
        self._allowed = (
            *credentials,
            ("access-control-allow-methods", ", ".join(config.methods)),
            ("access-control-allow-headers", ", ".join(dict.fromkeys((*ASKED, *config.request_headers)))),
            ("access-control-max-age", str(config.max_age)),
        )
        # An answer that is the same for everybody does not vary.
        self._vary = () if self._any else (("vary", "origin"),)

    async def __call__(self, exchange: Exchange, forward: Handler) -> None:
        call = exchange.call
        origin = call.headers.get("origin")
        if origin is None or _own(call, origin):
            await _marking(exchange, forward, Headers(self._vary))
            return
        if not self._allows(origin):
            raise CallerError(Reason.FORBIDDEN, "pages of this origin may not call here", details=self._details(NO_HEADERS))
        marks = Headers((("access-control-allow-origin", ANY if self._any else origin), *self._vary))
        if is_preflight(call):
            await exchange.accept(Headers(((":status", "204"), *marks, *self._allowed)))
            return
        await _marking(exchange, forward, marks.plus(*self._shown))

    def _allows(self, origin: str) -> bool:
        return self._any or origin in self._exact or (self._pattern is not None and self._pattern.fullmatch(origin) is not None)

    def _details(self, marks: Headers) -> tuple[Detail, ...]:
        headers = marks.plus(*self._vary)
        return (AnswerHeaders(headers),) if headers else ()


def is_preflight(call: Call) -> bool:
    """A browser asks beforehand whether a page may make a call."""
    return call.target.startswith("OPTIONS ") and call.headers.get("access-control-request-method") is not None


def _pattern(origin: str) -> str:
    return re.escape(origin).replace(r"://\*\.", r"://[a-z0-9-]+\.").replace(r":\*", r":\d{1,5}")


def _own(call: Call, origin: str) -> bool:
    """The page is the gateway's own: browsers name the origin of such calls too, where they change something."""
    _, separator, host = origin.partition("://")
    return bool(separator) and host == (call.headers.get("host") or "").lower()


async def _marking(exchange: Exchange, forward: Handler, marks: Headers) -> None:
    if not marks:
        await forward(exchange)
        return

    def marked(headers: Headers) -> Headers:
        return Headers((*_unmarked(headers), *marks))

    answered = Answered(exchange, exchange.call, marked)
    try:
        await forward(answered)
    except GatewayError as error:
        details = tuple(
            replace(detail, headers=_unmarked(detail.headers)) if isinstance(detail, HttpAnswer | AnswerHeaders) else detail
            for detail in error.details
        )
        error.details = details if answered.accepted else (*details, AnswerHeaders(marks))
        raise
    # The caller is answered though the inside has said nothing, and a page must be able to see that.
    if not answered.accepted and marks.get("access-control-allow-origin") is not None:
        await answered.accept()


def _unmarked(headers: Headers) -> Headers:
    """What a backend says of CORS itself is not for those who call the gateway."""
    return Headers(pair for pair in headers if not pair[0].startswith("access-control-"))

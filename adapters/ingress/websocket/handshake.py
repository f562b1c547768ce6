"""The opening handshake: what a request must look like, and the HTTP answers that refuse it. No I/O here."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Sequence
from email.utils import formatdate

from websockets.datastructures import Headers as WireHeaders
from websockets.http11 import Request, Response

from gateway.errors import Allowed, CallerError, GatewayError, Reason
from gateway.exchange import new_id
from gateway.message import PROBLEM, Headers
from gateway.policy.observe import header_values_dropped
from gateway.query import pairs_of
from gateway.status import TABLE, allowed, problem_body, retry_after
from gateway.topic.idempotency import HEADER as KEY

MAX_FIELDS = 100
KEY_BYTES = 16
_METHODS = frozenset({"HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
_HOST = re.compile(r"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?\Z")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_DEFAULT_PORT = {"http": "80", "https": "443", "ws": "80", "wss": "443"}
# Of the handshake itself: they say nothing of the call, and an answer has its own.
HANDSHAKE = frozenset(
    {
        "connection",
        "content-length",
        "date",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "sec-websocket-version",
        "server",
        "transfer-encoding",
        "upgrade",
    }
)
# What the library refuses with, where it does so before we are asked.
_REASONS = {
    403: (Reason.FORBIDDEN, "this origin may not connect"),
    405: (Reason.WRONG_METHOD, "a WebSocket is opened by GET"),
    408: (Reason.SLOW_REQUEST, "the request did not come in time"),
    414: (Reason.URI_TOO_LONG, "the request line is too long"),
    426: (Reason.UPGRADE_REQUIRED, "this is a WebSocket endpoint"),
    431: (Reason.HEADERS_TOO_LARGE, "the header fields are too large"),
    500: (Reason.BUG, "something went wrong here"),
    503: (Reason.OVERLOADED, "draining or full; try again later"),
}


def check(request: Request, origins: Sequence[str]) -> None:
    """Raise what refuses the request (RFC 6455, 4.2.1), else return."""
    fields = list(request.headers.raw_items())
    if request.method != "GET":
        known = request.method in _METHODS
        raise CallerError(
            Reason.WRONG_METHOD if known else Reason.NOT_IMPLEMENTED,
            "a WebSocket is opened by GET",
            details=(Allowed(("GET",)),),
        )
    if len(fields) > MAX_FIELDS:
        raise CallerError(Reason.HEADERS_TOO_LARGE, f"more than {MAX_FIELDS} header fields")
    headers = Headers((name.lower(), value) for name, value in fields)
    hosts = headers.all("host")
    if request.protocol != "HTTP/1.1" or len(hosts) != 1 or not _HOST.match(hosts[0]):
        raise CallerError(Reason.MALFORMED, "the request needs HTTP/1.1 and one valid Host")
    if not request.path.startswith("/"):
        raise CallerError(Reason.MALFORMED, "the request target must be a path")
    _check_upgrade(headers)
    if not all(value.isascii() for value in headers.all(KEY)):
        # It would be passed over, and what was to be written once be written again.
        raise CallerError(Reason.MALFORMED, "the Idempotency-Key is not ASCII")
    subprotocols(headers)
    _check_origin(headers, hosts[0], origins)


def _check_upgrade(headers: Headers) -> None:
    tokens = {token.strip().lower() for value in headers.all("connection") for token in value.split(",")}
    if "upgrade" not in tokens or [value.strip().lower() for value in headers.all("upgrade")] != ["websocket"]:
        raise CallerError(Reason.UPGRADE_REQUIRED, "this is a WebSocket endpoint")
    if headers.all("sec-websocket-version") != ("13",):
        raise CallerError(Reason.UPGRADE_REQUIRED, "version 13 of the protocol is spoken here")
    keys = headers.all("sec-websocket-key")
    try:
        valid = len(keys) == 1 and len(base64.b64decode(keys[0], validate=True)) == KEY_BYTES
    except (binascii.Error, ValueError):
        valid = False
    if not valid:
        raise CallerError(Reason.MALFORMED, "the request needs one valid Sec-WebSocket-Key")


def subprotocols(headers: Headers) -> tuple[str, ...]:
    """What the caller offers to speak (RFC 6455, 4.1): tokens, none of them twice."""
    names = tuple(name.strip(" \t") for value in headers.all("sec-websocket-protocol") for name in value.split(","))
    if not all(_TOKEN.match(name) for name in names) or len(set(names)) < len(names):
        raise CallerError(Reason.MALFORMED, "Sec-WebSocket-Protocol names words without spaces, each once")
    return names


def _check_origin(headers: Headers, host: str, origins: Sequence[str]) -> None:
    """A browser says where a page comes from. Without the check any page may speak with its reader's cookies."""
    given = headers.all("origin")
    if not given:
        return
    if len(given) > 1:
        raise CallerError(Reason.MALFORMED, "the request has two Origins")
    origin = given[0].lower()
    if "*" in origins or origin in origins:
        return
    scheme, _, authority = origin.partition("://")
    suffix = f":{_DEFAULT_PORT.get(scheme, '')}"
    if not authority or authority.removesuffix(suffix) != host.lower().removesuffix(suffix):
        raise CallerError(Reason.FORBIDDEN, "this origin may not connect")


def headers_of(request: Request) -> Headers:
    """The caller's own headers."""
    pairs = [(name.lower(), value) for name, value in request.headers.raw_items()]
    headers = Headers(pair for pair in pairs if pair[0] not in HANDSHAKE and pair[1].isascii())
    if not all(value.isascii() for _, value in pairs):
        header_values_dropped("websocket", sum(not value.isascii() for _, value in pairs))
    return headers


def split_target(path: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The raw path, and the query's pairs, decoded: parted by "&" alone, "+" is a space. Raises CallerError(MALFORMED)."""
    target, _, query = path.partition("?")
    return target, pairs_of(query)


def refusal(error: GatewayError, exchange_id: str) -> Response:
    """The HTTP answer in place of the 101."""
    row = TABLE[error.reason]
    body = problem_body(error, exchange_id)
    headers = WireHeaders(
        {
            "Date": formatdate(usegmt=True),
            "Connection": "close",
            "Content-Type": PROBLEM,
            "Content-Length": str(len(body)),
            "X-Request-Id": exchange_id,
        }
    )
    wait = retry_after(error)
    if wait is not None:
        headers["Retry-After"] = str(math.ceil(wait))
    if error.reason in {Reason.WRONG_METHOD, Reason.NOT_IMPLEMENTED}:
        headers["Allow"] = ", ".join(allowed(error)) or "GET"
    elif error.reason is Reason.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = ", ".join(allowed(error)) or "Bearer"
    elif error.reason is Reason.UPGRADE_REQUIRED:
        headers["Upgrade"] = "websocket"
        headers["Sec-WebSocket-Version"] = "13"
        if names := allowed(error):
            headers["Sec-WebSocket-Protocol"] = ", ".join(names)
    return Response(row.http, row.title, headers, body)


def refusal_of_status(status: int) -> Response:
    """The answer where the library has decided, by its status."""
    reason, detail = _REASONS.get(status, (Reason.MALFORMED, "this is no valid WebSocket handshake"))
    return refusal(GatewayError(reason, detail), new_id())


def add_headers(response: Response, headers: Headers, exchange_id: str) -> None:
    """What `accept` was given, on the 101. Names of our own and of the handshake stay off the wire."""
    for name, value in headers:
        if not name.startswith(":") and name not in HANDSHAKE:
            response.headers[name] = value
    if "x-request-id" not in response.headers:
        response.headers["X-Request-Id"] = exchange_id

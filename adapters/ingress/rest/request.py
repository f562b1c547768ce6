"""What a REST listener makes of a request's head and body: strict where HTTP leaves room to be read in two ways."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import urlsplit

from aiohttp import web_exceptions
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import BaseRequest, RequestPayloadError

from gateway.errors import Allowed, CallerError, Reason
from gateway.framing import NDJSON, SSE
from gateway.message import JSON, Headers
from gateway.policy.observe import header_values_dropped
from gateway.topic.idempotency import HEADER as KEY

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
STREAMS = (NDJSON, SSE, JSON)
"""How a stream can be had; the first where the caller does not mind."""

# RFC 3986 3.2.2: a registered name or an IP literal, then a port.
_HOST = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=%]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?\Z")
_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii"})
_HTTP_10, _HTTP_11 = (1, 0), (1, 1)


class ClosingError(CallerError):
    """A request that may be read in two ways, or has no sure end: the connection closes after the answer."""


@lru_cache(maxsize=1024)
def _name(raw: bytes) -> str:
    return raw.lower().decode("ascii", "replace")


def headers_of(request: BaseRequest) -> Headers:
    """The caller's headers, lower-cased, in order; what is not ASCII stays here."""
    headers = Headers((_name(name), value.decode("ascii")) for name, value in request.raw_headers if value.isascii())
    if len(headers) < len(request.raw_headers):
        header_values_dropped("rest", len(request.raw_headers) - len(headers))
    return headers


def check_head(request: BaseRequest, headers: Headers, max_fields: int) -> str:
    """Refuse what RFC 9112 calls malformed and the parser lets through. Returns the target in origin form."""
    version = request.version
    if version != _HTTP_11 and version != _HTTP_10:  # noqa: PLR1714  twice as fast as a set of tuples
        raise ClosingError(Reason.MALFORMED, "this is not HTTP/1.1")
    if len(headers) < len(request.raw_headers) and any(
        _name(name) == KEY and not value.isascii() for name, value in request.raw_headers
    ):
        # It would be passed over, and what was to be written once be written again.
        raise CallerError(Reason.MALFORMED, "the Idempotency-Key is not ASCII")
    if len(headers) > max_fields:
        raise ClosingError(Reason.HEADERS_TOO_LARGE, f"a request has {max_fields} header fields at most")
    hosts = [value for name, value in headers if name == "host"]
    if not (len(hosts) == 1 and _is_host(hosts[0])) and not (not hosts and version == _HTTP_10):
        raise ClosingError(Reason.MALFORMED, "a request names one Host")
    if headers.get("transfer-encoding") is not None:
        _check_transfer(headers.all("transfer-encoding"), headers, old=version == _HTTP_10)
    path = request.raw_path
    if path.startswith("/") or (path == "*" and request.method == "OPTIONS"):
        return path
    parts = urlsplit(path)
    # RFC 9112 3.2.2: the absolute form is for proxies; a server takes it where it names the server itself.
    if parts.scheme not in {"http", "https"} or not hosts or parts.netloc.lower() != hosts[0].lower():
        raise ClosingError(Reason.MALFORMED, "the target names another host than Host")
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


@lru_cache(maxsize=256)
def _is_host(text: str) -> bool:
    return not text or _HOST.match(text) is not None


def _check_transfer(values: Sequence[str], headers: Headers, *, old: bool) -> None:
    """RFC 9112 6.1 and 6.3."""
    codings = [coding.strip().lower() for value in values for coding in value.split(",")]
    if old or headers.get("content-length") is not None or codings.count("chunked") != 1 or codings[-1] != "chunked":
        raise ClosingError(Reason.MALFORMED, "the body's framing is not clear")
    if len(codings) > 1:
        raise ClosingError(Reason.NOT_IMPLEMENTED, "no transfer coding but chunked is served")


def check_method(method: str) -> None:
    """TRACE and QUERY 405, CONNECT 400, a token that HTTP does not know 501."""
    if method in METHODS:
        return
    if method in {"TRACE", "QUERY"}:
        raise CallerError(Reason.WRONG_METHOD, f"{method} is not served", details=(Allowed(tuple(sorted(METHODS))),))
    if method == "CONNECT":
        raise ClosingError(Reason.MALFORMED, "this is no proxy")
    raise CallerError(Reason.NOT_IMPLEMENTED, "this method is not known")


@lru_cache(maxsize=256)
def media_type(content_type: str) -> str:
    """The bare type of a Content-Type; CallerError for a charset that is not UTF-8."""
    kind, *parameters = content_type.split(";")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in _CHARSETS:
            raise CallerError(Reason.UNSUPPORTED, "no charset but utf-8 is served", details=(Allowed(("utf-8",)),))
    return kind.strip().lower()


@lru_cache(maxsize=256)
def choose(accept: str, served: tuple[str, ...], streams: bool) -> str:  # noqa: FBT001  by position: half the cost of the cache
    """The media type to answer in (RFC 9110 12.5.1). "" is the type of the request; CallerError where nothing fits.

    An unknown parameter of a range is ignored; of equal weights the order in which we serve decides.
    """
    offered = STREAMS if streams else served
    if not accept or not offered:
        return offered[0] if streams else ""
    ranges = [_range(part) for part in accept.split(",") if part.strip()]
    best, weight = "", 0.0
    for kind in offered:
        major = kind.partition("/")[0]
        # The most specific range that fits decides, whatever its weight.
        fits = [(specificity, q) for name, specificity, q in ranges if name in {kind, f"{major}/*", "*/*"}]
        if fits and max(fits)[1] > weight:
            best, weight = kind, max(fits)[1]
    if not best:
        raise CallerError(Reason.UNACCEPTABLE, "nothing that Accept allows is served", details=(Allowed(offered),))
    explicit = any(name == best for name, _, _ in ranges)
    return best if streams or explicit else ""


def _range(text: str) -> tuple[str, int, float]:
    name, *parameters = (part.strip().lower() for part in text.split(";"))
    weight = 1.0
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                weight = min(1.0, max(0.0, float(parameter[2:])))
            except ValueError:
                weight = 0.0
    specificity = 0 if name == "*/*" else 1 if name.endswith("/*") else 2
    return name, specificity, weight


def _too_large(limit: int) -> CallerError:
    return ClosingError(Reason.TOO_LARGE, f"a body has {limit} bytes at most")


async def read_body(request: BaseRequest, headers: Headers, limit: int, seconds: float) -> bytes:
    """The whole body, decoded. Refused before reading where its declared length is over the limit."""
    content = request.content
    encoding = coding(headers)
    length = headers.get("content-length")
    if length is not None and int(length) > limit:
        raise _too_large(limit)
    if content.is_eof():  # it came with the head: nothing to wait for
        body = content.read_nowait(-1) if content.exception() is None else await _collect(request, limit, seconds)
    else:
        go_on(request)
        body = await _collect(request, limit, seconds)
    if len(body) > limit:
        raise _too_large(limit)
    return inflated(body, encoding, limit) if encoding else body


def coding(headers: Headers) -> str:
    """How a body is compressed; "" where it is not. Raises CallerError(UNSUPPORTED_ENCODING)."""
    encoding = headers.joined("content-encoding").strip().lower()
    if encoding not in {"", "identity", "gzip", "x-gzip", "deflate"}:
        raise CallerError(
            Reason.UNSUPPORTED_ENCODING, "this Content-Encoding is not served", details=(Allowed(("gzip", "deflate")),)
        )
    return "" if encoding == "identity" else encoding


def go_on(request: BaseRequest) -> None:
    """Tell a caller who waits for it that its body is wanted (RFC 9110 10.1.1)."""
    waits = request.headers.get("expect", "").lower() == "100-continue" and request.version == _HTTP_11
    if waits and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def read_some(request: BaseRequest) -> bytes:
    """What has come of a body; none at its end."""
    try:
        return await request.content.readany()
    except (ConnectionError, RuntimeError) as error:
        # RuntimeError is what the library says where the caller was gone before its handler began.
        if isinstance(error, RuntimeError) and request.transport is not None:
            raise
        # The caller is gone, so that its handler is being cancelled: whoever reads for it in another task is cancelled with it.
        raise asyncio.CancelledError from error
    except (RequestPayloadError, HttpProcessingError, web_exceptions.HTTPException) as error:
        raise ClosingError(Reason.MALFORMED, "the body is broken off or badly framed") from error


async def _collect(request: BaseRequest, limit: int, seconds: float) -> bytes:
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while chunk := await read_some(request):
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                chunks.append(chunk)
    except TimeoutError as error:
        raise ClosingError(Reason.SLOW_REQUEST, f"the body did not come within {seconds:g} s") from error
    return b"".join(chunks)


def inflated(body: bytes, encoding: str, limit: int) -> bytes:
    """At most `limit` bytes are ever made of a body, however small it is."""
    inflate = zlib.decompressobj(zlib.MAX_WBITS if encoding == "deflate" else zlib.MAX_WBITS | 16)
    try:
        whole = inflate.decompress(body, limit + 1)
    except zlib.error as error:
        raise CallerError(Reason.MALFORMED, f"the body is not {encoding}") from error
    if len(whole) > limit:
        raise _too_large(limit)
    if not inflate.eof or inflate.unused_data:
        raise CallerError(Reason.MALFORMED, f"the body is not one whole {encoding} stream")
    return whole


def takes_gzip(accepts: str) -> bool:
    """Whether a list of encodings has gzip, and does not refuse it by a weight of 0."""
    for part in accepts.split(","):
        name, _, weight = part.partition(";")
        if name.strip().lower() == "gzip":
            return weight.replace(" ", "").rstrip("0.").lower() != "q="
    return False

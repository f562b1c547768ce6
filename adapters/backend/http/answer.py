"""What an HTTP backend answers: its head, its body within bounds, its stream, and the reasons of what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from json import loads
from time import time

from aiohttp import ClientError, ClientResponse

from gateway.errors import BackendError, Detail, HttpAnswer, Outcome, Reason, RetryAfter
from gateway.exchange import Exchange
from gateway.framing import Event, Events, Lines, TooLongError
from gateway.message import BYTES, JSON, PROTOBUF, TEXT, Headers, Message
from gateway.status import reason_of_http

_SUCCESS = range(200, 300)
_STATUSES = range(200, 600)
_OK = 200
_NO_BODY = frozenset({204, 205})
_CHARSETS = frozenset({"", "utf-8", "us-ascii"})
_ENCODINGS = frozenset({"", "identity", "gzip", "deflate", "br", "zstd"})
_CODINGS = frozenset({"", "chunked"})
_ALIASES = {PROTOBUF: frozenset({PROTOBUF, "application/protobuf", "application/vnd.google.protobuf"})}
_MAX_RETRY_AFTER = 1_000_000


@dataclass(frozen=True, slots=True)
class Reading:
    """How the answers of one target are read."""

    content_type: str
    """Of the messages that the route wants."""
    opaque: bool
    """Any type will do."""
    safe: bool
    limit: int
    """The most bytes of a body, or of one message of a stream."""
    back: frozenset[str]
    """Headers that go back to the caller."""

    def bad(self, message: str) -> BackendError:
        """The answer makes no sense."""
        return BackendError(Reason.BAD_ANSWER, message, outcome=self.outcome)

    @property
    def outcome(self) -> Outcome | None:
        """Of every failure after the request has left; None for what its reason says."""
        return Outcome.FAILED if self.safe else None

    def head(self, response: ClientResponse, *, empty: bool = False) -> Headers:
        """What `accept` is told. A status that says there is no body is only passed on where there is none."""
        pairs = self._passed(response)
        if response.status != _OK and (empty or response.status not in _NO_BODY):
            pairs.append((":status", str(response.status)))
        return Headers(pairs)

    def _passed(self, response: ClientResponse) -> list[tuple[str, str]]:
        return [
            (lower, value) for name, value in response.headers.items() if (lower := name.lower()) in self.back and value.isascii()
        ]

    async def chunk(self, response: ClientResponse) -> bytes:
        """The next bytes of the body; none at its end."""
        try:
            return await response.content.readany()
        except (ClientError, OSError) as error:
            raise self.bad("the backend's answer broke off or cannot be read") from error

    async def body(self, response: ClientResponse) -> bytes:
        """All of it."""
        if (response.content_length or 0) > self.limit and response.method != "HEAD":
            raise self.bad(f"the backend's answer is larger than {self.limit} bytes")
        body = await self.chunk(response)
        if response.content.at_eof():
            return self._within(body, len(body))
        chunks, size = [body], len(body)
        while chunk := await self.chunk(response):
            size += len(chunk)
            self._within(chunk, size)
            chunks.append(chunk)
        return b"".join(chunks)

    def _within(self, chunk: bytes, size: int) -> bytes:
        if size > self.limit:
            raise self.bad(f"the backend's answer is larger than {self.limit} bytes")
        return chunk

    def succeeded(self, response: ClientResponse) -> bool:
        """Whether the status is a 2xx. Raises BAD_ANSWER where the head makes no sense."""
        headers = response.headers
        if response.status not in _STATUSES:
            raise self.bad("the backend answered with a status that is none")
        # The client library leaves what it does not know in the body as it is.
        if (
            headers.get("content-encoding", "").lower() not in _ENCODINGS
            or headers.get("transfer-encoding", "").lower() not in _CODINGS
        ):
            raise self.bad("the backend's answer is packed in a way that nobody asked for")
        return response.status in _SUCCESS

    def refusal(self, response: ClientResponse, body: bytes) -> BackendError:
        """A status that is no success, with the answer for callers that speak HTTP too."""
        headers = self._passed(response)
        if body and (kind := response.headers.get("content-type")) is not None and kind.isascii():
            headers.append(("content-type", kind))
        details: tuple[Detail, ...] = (HttpAnswer(response.status, body, Headers(headers)),)
        after = _seconds(response.headers.get("retry-after", ""))
        if after is not None:
            details = (*details, RetryAfter(after))
        reason = reason_of_http(response.status)
        return BackendError(reason, f"the backend answered {response.status}", details=details, outcome=self.outcome)

    def message(self, response: ClientResponse, body: bytes) -> Message:
        """A body as a message of the type that the route wants."""
        kind, charset = media_type(response)
        if self.opaque:
            return Message(body, kind or BYTES)
        if not _reads(kind, self.content_type) or charset not in _CHARSETS:
            raise self.bad("the backend's answer is not in the route's format")
        return Message(body, self.content_type)

    async def pour(self, response: ClientResponse, exchange: Exchange, framing: Callable[[bytes], Iterator[Message]]) -> None:
        """Every message of a stream. Waits while the caller is slow, and lets the backend wait."""
        while chunk := await self.chunk(response):
            messages = framing(chunk)
            while (message := self._next(messages)) is not None:
                await exchange.send(message)

    def _next(self, messages: Iterator[Message]) -> Message | None:
        try:
            return next(messages, None)
        except TooLongError as error:
            raise self.bad(f"a message of the backend's stream is larger than {self.limit} bytes") from error


class Sse:
    """Server-sent events as messages: `id` is the cursor, `data` the body, and `event: error` the error that it is."""

    def __init__(self, reading: Reading) -> None:
        self._events = Events(reading.limit)
        self._reading = reading

    def __call__(self, chunk: bytes) -> Iterator[Message]:
        for event in self._events.feed(chunk):
            if event.name == "error":
                raise self._failure(event)
            yield Message(event.data.encode(), self._reading.content_type, cursor=event.id or None)

    def end(self) -> Iterator[Message]:
        """An event that no blank line ends is none (WHATWG HTML 9.2.6)."""
        return iter(())

    def _failure(self, event: Event) -> BackendError:
        """A problem object (RFC 9457) says which status it would have been."""
        try:
            status = loads(event.data)["status"]
        except (ValueError, TypeError, KeyError, RecursionError):
            status = None
        reason = reason_of_http(status) if isinstance(status, int) else Reason.BACKEND_UNKNOWN
        return BackendError(reason, "the backend ended its stream with an error", outcome=self._reading.outcome)


class Ndjson:
    """Lines as messages; an empty line is none."""

    def __init__(self, reading: Reading) -> None:
        self._lines = Lines(reading.limit)
        self._content_type = reading.content_type

    def __call__(self, chunk: bytes) -> Iterator[Message]:
        for line in self._lines.feed(chunk):
            if line.strip():
                yield Message(line, self._content_type)

    def end(self) -> Iterator[Message]:
        """A last line need not be ended."""
        line = self._lines.end()
        return iter((Message(line, self._content_type),) if line.strip() else ())


def media_type(response: ClientResponse) -> tuple[str, str]:
    """The bare type of a body and its charset, in lower case; "" where there is none."""
    value = response.headers.get("content-type", "")
    if ";" not in value:
        return value.strip().lower(), ""
    kind, *parameters = value.lower().split(";")
    charset = next((text.strip()[8:].strip('"') for text in parameters if text.strip().startswith("charset=")), "")
    return kind.strip(), charset


def _seconds(after: str) -> float | None:
    """How long a Retry-After asks to wait: seconds, or until a date (RFC 9110 10.2.3). None for nonsense."""
    try:
        seconds = float(after) if after.isascii() and after.isdigit() else parsedate_to_datetime(after).timestamp() - time()
    except (ValueError, OverflowError):
        return None
    return max(0.0, seconds) if seconds < _MAX_RETRY_AFTER else None


def _reads(kind: str, wanted: str) -> bool:
    """Whether a body of a type is one of the type that is wanted."""
    if kind == wanted:
        return True
    if wanted == JSON:
        return kind.endswith("+json")
    if wanted == TEXT:
        return kind.startswith("text/")
    return kind in _ALIASES.get(wanted, ())

"""The innermost wrapper of every route: the caller's format to the target's, and back. Compiled when the config is loaded."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.codec import NOTHING_GIVEN, Given, Value
from gateway.errors import Allowed, BackendError, CallerError, Reason
from gateway.exchange import Exchange, Handler, Wrapper
from gateway.message import BYTES, JSON, Message
from gateway.policy import Guard
from gateway.status import Failure
from gateway.transcode import Transcode

# What a header may hold (RFC 9110 5.5): who writes the message need not be who answers for the head.
_FIELD = re.compile(r"[\x20-\x7e]+\Z")

Present = Callable[[Message], Message]
"""A reply of the target, as the caller reads it."""


@dataclass(frozen=True, slots=True)
class Translate:
    """Both directions of one route on one kind of listener, by the caller's media type.

    `opaque`: the target takes any bytes and gives any, and the media type goes through with them both ways.
    """

    requests: Mapping[str, Transcode]
    replies: Mapping[str, Present]
    content_type: str
    query: bool = False
    """The query is the message's business, as the path is."""
    otherwise: Callable[[str], Transcode] | None = None
    """For a media type that `requests` does not name."""
    shown: str = ""
    """The only media type of replies; "" where the caller decides."""
    opaque: bool = False
    notices: Mapping[str, Present] = field(default_factory=dict)
    """How a notice is written for each media type of replies; nothing where that is somebody else's business."""
    guards: Guard = field(default=Guard.MESSAGE)

    async def __call__(self, exchange: Exchange, forward: Handler) -> None:
        await forward(exchange if self.opaque else _Translated(exchange, self))


class _Translated(Wrapper):
    """Replies are in the type that the caller asked for or, where it did not, in that of its latest message."""

    __slots__ = ("_given", "_reply_type", "_translate")

    def __init__(self, inner: Exchange, translate: Translate) -> None:
        call = inner.call
        self.inner = inner
        self.call = call
        self._translate = translate
        self._reply_type = translate.shown or call.accepts
        query = call.query if translate.query else ()
        self._given = Given(call.params, query) if call.params or query else NOTHING_GIVEN

    async def receive(self) -> Message:
        message = await self.inner.receive()
        translate = self._translate
        kind = message.content_type
        transcoded = translate.requests.get(kind)
        if transcoded is None and translate.otherwise is not None:
            transcoded = translate.otherwise(kind)
        if transcoded is None and not message.body:
            # Nothing is of no media type, whatever its sender's library says (aiohttp's: application/octet-stream).
            kind = JSON
            transcoded = translate.requests.get(kind)
        if transcoded is None:
            raise CallerError(
                Reason.UNSUPPORTED, "this media type is not served here", details=(Allowed(tuple(translate.requests)),)
            )
        if not translate.shown and not self.call.accepts:
            self._reply_type = kind
        body = transcoded(message.body, self._given)
        if body is message.body and kind == translate.content_type:
            return message
        return Message(body, translate.content_type, message.key, message.headers, message.cursor, message.timestamp)

    async def send(self, message: Message) -> None:
        translate = self._translate
        shown = translate.replies
        if type(message) is not Message:
            shown = translate.notices
            if isinstance(message, Failure) or not shown:
                await self.inner.send(message)
                return
        present = shown.get(self._reply_type) or shown[JSON]
        try:
            told = present(message)
        except CallerError as error:
            raise BackendError(Reason.BAD_ANSWER, "the backend's answer does not fit its contract") from error
        await self.inner.send(told)


def presenting(translated: Transcode, content_type: str) -> Present:
    """A reply whose body alone is translated."""

    def present(message: Message) -> Message:
        body = translated(message.body, NOTHING_GIVEN)
        if body is message.body and message.content_type == content_type:
            return message
        return Message(body, content_type, message.key, message.headers, message.cursor, message.timestamp)

    return present


def downloading(read: Callable[[bytes], Value]) -> Present:
    """A reply that is a google.api.HttpBody: its data, as what it says to be."""

    def present(message: Message) -> Message:
        told = read(message.body)
        data = b64decode(told.get("data") or "")
        kind = told.get("contentType") or BYTES
        if not _FIELD.match(kind):
            raise CallerError(Reason.MALFORMED, "a content type is printable ASCII")
        return Message(data, kind, message.key, message.headers, message.cursor, message.timestamp)

    return present


def picking(read: Callable[[bytes], Value], pick: Callable[[Value], Value], encode: Callable[[Value], bytes]) -> Present:
    """A reply of which one field is the response."""

    def present(message: Message) -> Message:
        body = encode(pick(read(message.body)))
        return Message(body, JSON, message.key, message.headers, message.cursor, message.timestamp)

    return present

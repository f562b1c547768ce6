"""The innermost wrapper of every route: the caller's format to the target's, and back. Compiled when the config is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.codec import Transcode
from gateway.errors import Allowed, BackendError, CallerError, Reason
from gateway.exchange import Exchange, Handler, Wrapper
from gateway.message import JSON, Message
from gateway.policy import Guard
from gateway.status import Failure

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
    merging: bool = False
    """Path variables become fields of the message."""
    query: bool = False
    """So do query parameters: the call is one that carries no body."""
    otherwise: Transcode | None = None
    """For a media type that `requests` does not name."""
    opaque: bool = False
    guards: Guard = field(default=Guard.MESSAGE)

    async def __call__(self, exchange: Exchange, forward: Handler) -> None:
        await forward(exchange if self.opaque else _Translated(exchange, self))


class _Translated(Wrapper):
    """Replies are in the type that the caller asked for or, where it did not, in that of its latest message."""

    __slots__ = ("_fields", "_reply_type", "_translate")

    def __init__(self, inner: Exchange, translate: Translate) -> None:
        call = inner.call
        self.inner = inner
        self.call = call
        self._translate = translate
        self._reply_type = call.accepts
        self._fields = self._merged() if translate.query and call.query else call.params

    def _merged(self) -> Mapping[str, str]:
        call = self.call
        fields = dict(call.params)
        for name, value in call.query:
            if name in fields:
                raise CallerError(Reason.MALFORMED, f"{name} is given twice")
            fields[name] = value
        return fields

    async def receive(self) -> Message:
        message = await self.inner.receive()
        translate = self._translate
        kind = message.content_type
        transcoded = translate.requests.get(kind) or translate.otherwise
        if transcoded is None:
            raise CallerError(
                Reason.UNSUPPORTED, "this media type is not served here", details=(Allowed(tuple(translate.requests)),)
            )
        if not self.call.accepts:
            self._reply_type = kind
        body = transcoded(message.body, self._fields)
        if body is message.body and kind == translate.content_type:
            return message
        return Message(body, translate.content_type, message.key, message.headers, message.cursor, message.timestamp)

    async def send(self, message: Message) -> None:
        if isinstance(message, Failure):
            await self.inner.send(message)
            return
        present = self._translate.replies.get(self._reply_type) or self._translate.replies[JSON]
        try:
            shown = present(message)
        except CallerError as error:
            raise BackendError(Reason.BAD_ANSWER, "the backend's answer does not fit its contract") from error
        await self.inner.send(shown)


def presenting(translated: Transcode, content_type: str) -> Present:
    """A reply whose body alone is translated."""

    def present(message: Message) -> Message:
        body = translated(message.body, None)
        if body is message.body and message.content_type == content_type:
            return message
        return Message(body, content_type, message.key, message.headers, message.cursor, message.timestamp)

    return present

"""The subprotocol polygate.v1: a frame is an envelope that holds a message, or says what a WebSocket cannot (docs/websocket.md).

Text frames are JSON, binary frames polygate.v1.Envelope (protos/polygate/v1). No I/O here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import DecodeError

from gateway.errors import CallerError, GatewayError, Reason
from gateway.jsontext import loads
from gateway.message import NO_HEADERS, Headers, compact, value

SUBPROTOCOL = "polygate.v1"

Kind = Literal["message", "headers", "end", "trailers", "error"]
Problem = Mapping[str, Any]

# What a header may be (RFC 9110 5), its name in lower case.
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+\Z")
_VALUE = re.compile(r"[\x20-\x7e\t]*\Z")
# What is between these is the message, as it was written; were it followed by another member, it would be no JSON.
_MESSAGE = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*"message"[ \t\r\n]*:(.*)\}[ \t\r\n]*\Z', re.DOTALL)


@value
class Envelope:
    """What one frame says."""

    kind: Kind
    body: bytes = b""
    """Of a message."""
    headers: Headers = NO_HEADERS
    """Of headers and trailers."""
    problem: Problem | None = None
    """Of an error: the problem object (RFC 9457)."""


END = Envelope("end")


def _declared() -> Any:
    """polygate.v1.Envelope, as protos/polygate/v1 has it."""
    pool = DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(Path(__file__).with_name("polygate.binpb").read_bytes()).file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("polygate.v1.Envelope"))


_Binary = _declared()


def read(frame: bytes, *, text: bool) -> Envelope:
    """What a frame says. CallerError(MALFORMED) where it is no envelope."""
    return _of_text(frame) if text else _of_binary(frame)


def write(envelope: Envelope, *, text: bool) -> bytes:
    """The frame that says it. The message of a text frame is JSON."""
    if text:
        if envelope.kind == "message":
            return b'{"message":' + envelope.body + b"}"
        return compact({envelope.kind: _said(envelope)}).encode()
    binary = _Binary()
    if envelope.kind == "message":
        binary.message = envelope.body
    elif envelope.kind == "end":
        binary.end = True
    elif envelope.kind == "error":
        # What our own problem object has and the message does not is for later versions of it.
        ParseDict(dict(envelope.problem or {}), binary.error, ignore_unknown_fields=True)
    else:
        fields = getattr(binary, envelope.kind).fields
        getattr(binary, envelope.kind).SetInParent()
        for name, text_ in envelope.headers:
            fields[name].values.append(text_)
    written: bytes = binary.SerializeToString()
    return written


def _said(envelope: Envelope) -> object:
    if envelope.kind == "end":
        return True
    if envelope.kind == "error":
        return envelope.problem
    fields: dict[str, list[str]] = {}
    for name, text in envelope.headers:
        fields.setdefault(name, []).append(text)
    return fields


def _of_text(frame: bytes) -> Envelope:
    if found := _MESSAGE.match(frame):
        return Envelope("message", found[1])
    try:
        said = loads(frame)
    except GatewayError as error:
        raise _malformed() from error
    if not isinstance(said, dict) or len(said) != 1:
        raise _malformed()
    [(kind, content)] = said.items()
    if kind == "end" and content is True:
        return END
    if kind == "error" and isinstance(content, dict):
        return Envelope("error", problem=content)
    if kind in {"headers", "trailers"} and isinstance(content, dict):
        pairs = ((name, one) for name, texts in content.items() for one in (texts if isinstance(texts, list) else [texts]))
        return Envelope(kind, headers=_headers(pairs))
    raise _malformed()


def _of_binary(frame: bytes) -> Envelope:
    try:
        binary = _Binary.FromString(frame)
    except DecodeError as error:
        raise _malformed() from error
    kind = binary.WhichOneof("kind")
    if kind == "message":
        return Envelope("message", binary.message)
    if kind == "end" and binary.end:
        return END
    if kind == "error":
        return Envelope("error", problem=MessageToDict(binary.error, always_print_fields_with_no_presence=True))
    if kind in {"headers", "trailers"}:
        fields = getattr(binary, kind).fields
        return Envelope(kind, headers=_headers((name, one) for name, texts in fields.items() for one in texts.values))
    raise _malformed()


def _headers(pairs: Iterable[tuple[str, object]]) -> Headers:
    """Lower-cased. What no header can be is malformed, for the other end has the choice."""
    found = []
    for name, text in pairs:
        lower = name.lower()
        if not isinstance(text, str) or not _NAME.match(lower) or not _VALUE.match(text):
            raise _malformed()
        found.append((lower, text.strip(" \t")))
    return Headers(found)


def _malformed() -> CallerError:
    return CallerError(Reason.MALFORMED, f"the frame is no envelope of {SUBPROTOCOL}: see docs/websocket.md")

"""An event, the envelope of a tailed message, and a cursor, the place after it (`protos/polygate/v1`)."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from math import isinf

from gateway.errors import CallerError, FieldError, Reason
from gateway.message import JSON, Message, Notice
from gateway.topic.log import Offsets, rfc3339

EVENT = "polygate.v1.Event"
RECEIPT = "polygate.v1.Receipt"

_CURSOR = re.compile(r"[0-9]{1,9}:[0-9]{1,19}(?:,[0-9]{1,9}:[0-9]{1,19}){0,9999}\Z")


def cursor_of(offsets: Offsets) -> str:
    """The text of a place in a topic: the next offset of each partition. Opaque to callers."""
    return ",".join(f"{partition}:{offset}" for partition, offset in sorted(offsets.items()))


def offsets_of(cursor: str) -> dict[int, int]:
    """The place that a cursor names. CallerError(MALFORMED) for a text that is none."""
    if not _CURSOR.match(cursor):
        raise CallerError(Reason.MALFORMED, "this is not a cursor", details=(FieldError("/start", "is not a cursor"),))
    pairs = (pair.split(":") for pair in cursor.split(","))
    return {int(partition): int(offset) for partition, offset in pairs}


def plain(message: Message) -> dict[str, object]:
    """An event as plain JSON. A JSON body is embedded, any other text is a string, bytes are base64 with an `encoding`
    (of a key: `key_encoding`).
    """
    key = _text(message.key)
    event: dict[str, object] = {
        "cursor": message.cursor or "",
        "key": key,
        "timestamp": rfc3339(message.timestamp or 0),
        "headers": _headers(message),
    }
    if key is None and message.key is not None:
        event |= {"key": base64.b64encode(message.key).decode(), "key_encoding": "base64"}
    return {**event, **embedded(message)}


def embedded(message: Message) -> dict[str, object]:
    """The body of a message inside JSON, under `body`: see `plain`."""
    if message.content_type == JSON:
        try:
            return {"body": _json(message.body)}
        except (ValueError, RecursionError):
            pass  # a record that says JSON and is none, or none that we may send on, is shown as the text that it is
    text = _text(message.body)
    if text is not None:
        return {"body": text}
    return {"body": base64.b64encode(message.body).decode(), "encoding": "base64"}


def named(notice: Message) -> bytes:
    """A notice among events, in JSON: what it says under its name, with its cursor beside it, where every event has one. One
    without a name stands by itself.
    """
    assert isinstance(notice, Notice)  # noqa: S101  see `present.notices`
    if not notice.name:
        return notice.body
    return b'{"cursor":"%b","%b":%b}' % ((notice.cursor or "").encode(), notice.name.encode(), notice.body)


def mapped(message: Message) -> dict[str, object]:
    """An event in the proto3 JSON mapping of polygate.v1.Event, for its binary form."""
    return {
        "cursor": message.cursor or "",
        **({"key": base64.b64encode(message.key).decode()} if message.key is not None else {}),
        "timestamp": rfc3339(message.timestamp or 0),
        "headers": {name: {"values": values} for name, values in _headers(message).items()},
        "body": base64.b64encode(message.body).decode(),
    }


def _json(body: bytes) -> object:
    """A JSON body that can be embedded in another: ValueError for numbers and characters that JSON cannot carry."""
    value = json.loads(body, parse_constant=_refused, parse_float=_finite)
    if b"\\u" in body:
        json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair cannot be written in UTF-8
    return value


def _refused(name: str) -> float:
    raise ValueError(name)


def _finite(text: str) -> float:
    value = float(text)
    if isinf(value):
        raise ValueError(text)
    return value


def _headers(message: Message) -> Mapping[str, list[str]]:
    headers: dict[str, list[str]] = {}
    for name, value in message.headers:
        headers.setdefault(name, []).append(value)
    return headers


def _text(value: bytes | None) -> str | None:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None

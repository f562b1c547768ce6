"""Kafka's records and ours: headers, sizes, and what the library logs."""

from __future__ import annotations

import base64
import binascii
import logging
import time
from typing import Any

from gateway.message import NO_HEADERS, Headers, Message
from gateway.port import Record

BINARY = "-bin"
# An upper bound of what stands around a record in its batch: lengths, offset, timestamp, and around each header.
RECORD_OVERHEAD = 96
HEADER_OVERHEAD = 10

LOUD_S = 30.0
LOUD_KINDS = 500


def headers_to(headers: Headers) -> list[tuple[str, bytes]]:
    """A record's headers: text in UTF-8, and what stands in base64 under a name in `-bin` as the bytes that it is."""
    return [(name, value.encode() if not name.endswith(BINARY) else _raw(value)) for name, value in headers]


def _raw(value: str) -> bytes:
    try:
        # gRPC leaves the padding off.
        return base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        return value.encode()


def headers_from(headers: tuple[tuple[str, bytes | None], ...]) -> Headers:
    """The same the other way. Names are in lower case; a value that is no UTF-8 gets a name in `-bin`."""
    return Headers(_header(name.lower(), value or b"") for name, value in headers) if headers else NO_HEADERS


def _header(name: str, value: bytes) -> tuple[str, str]:
    if not name.endswith(BINARY):
        try:
            return name, value.decode()
        except UnicodeDecodeError:
            name += BINARY
    return name, base64.b64encode(value).decode()


def record_of(record: Any) -> Record:
    """One consumed record. A tombstone, which has no value, has an empty body."""
    return Record(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value or b"",
        headers_from(record.headers),
    )


def size_of(message: Message, headers: list[tuple[str, bytes]]) -> int:
    """How many bytes a record takes in its batch, at the most."""
    size = RECORD_OVERHEAD + len(message.body) + len(message.key or b"") + HEADER_OVERHEAD * len(headers)
    for name, value in headers:
        size += len(name) + len(value)
    return size


class Quiet(logging.Filter):
    """Lets each kind of the library's complaints through twice a minute: while a broker is away there are ten a second."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], tuple[float, int]] = {}
        self._loggers: list[logging.Logger] = []

    def __enter__(self) -> None:
        """Filter what every logger of aiokafka says: a filter on the first of them would not see what the others say."""
        names = [name for name in logging.root.manager.loggerDict if name == "aiokafka" or name.startswith("aiokafka.")]
        self._loggers = [logging.getLogger(name) for name in names]
        for logger in self._loggers:
            logger.addFilter(self)

    def __exit__(self, *error: object) -> None:
        for logger in self._loggers:
            logger.removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        kind, now = (record.name, str(record.msg)), time.monotonic()
        since, hidden = self._said.get(kind, (-LOUD_S, 0))
        if now - since < LOUD_S:
            self._said[kind] = (since, hidden + 1)
            return False
        if len(self._said) >= LOUD_KINDS:
            self._said.clear()
        self._said[kind] = (now, 0)
        if hidden:
            record.msg = f"{record.msg} (and {hidden} more like it)"
        return True

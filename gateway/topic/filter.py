"""Filters of tails: which of a topic's records a caller is shown, told by an expression over what an event has."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import lru_cache

from gateway.codec import Value
from gateway.errors import CallerError, GatewayError
from gateway.exchange import Call
from gateway.expression import Expression, ExpressionError
from gateway.port import Record
from gateway.result import PassedOver, refuse
from gateway.subject import given, headers_of
from gateway.topic.log import rfc3339

NAMES = ("body", "key", "headers", "timestamp", "cursor", "params", "query", "request")
_OF_THE_CALLER = frozenset({"cursor", "params", "query", "request"})
MAX_BODY = 256 << 10
"""Bytes of a body that is opened for a filter."""
REMEMBERED_BYTES = 16 << 10
REMEMBERED = 128


class Filter:
    """One filter of one route. What many callers would each find out of one record is found out once."""

    def __init__(self, text: str, opened: Callable[[bytes], Value]) -> None:
        """`opened` reads a record's body; CallerError where it cannot. Raises ExpressionError."""
        self._expression = Expression(text, NAMES)
        if self._expression.kind not in {"BOOL", "DYN"}:
            raise ExpressionError(f"{text!r}: is no filter: its value is no true or false")
        self._opened = opened
        self._shared = not self._expression.uses & _OF_THE_CALLER
        self._told = self._verdict if self._shared else self._event
        self._remembered = lru_cache(maxsize=REMEMBERED)(self._told)

    @property
    def queried(self) -> frozenset[str]:
        """The query parameters that it asks for."""
        return frozenset(member for name, member in self._expression.members if name == "query")

    def shows(self, record: Record, cursor: str, call: Call, request: Mapping[str, Value]) -> bool:
        """Whether a caller is shown a record; `cursor` is the place after it, `request` what the tail was asked with. CallerError
        where the expression fails on it.
        """
        told: Value = self._remembered(record) if len(record.body) <= REMEMBERED_BYTES else self._told(record)
        if isinstance(told, GatewayError):
            raise told
        if self._shared:
            return told is True
        uses = self._expression.uses
        own = given(call, uses & {"params", "query"})
        return self._expression.evaluate({**told, **own, "cursor": cursor, "request": dict(request)}) is True

    def _verdict(self, record: Record) -> Value:
        try:
            return self._expression.evaluate(self._event(record))
        except CallerError as error:
            return error

    def _event(self, record: Record) -> dict[str, Value]:
        """What the expression uses of a record, as an event shows it."""
        uses = self._expression.uses
        event: dict[str, Value] = {}
        if "body" in uses:
            event["body"] = self._body(record.body)
        if "key" in uses:
            event["key"] = None if record.key is None else _text(record.key)
        if "headers" in uses:
            event["headers"] = headers_of(record.headers)
        if "timestamp" in uses:
            event["timestamp"] = rfc3339(record.timestamp)
        return event

    def _body(self, body: bytes) -> Value:
        if len(body) > MAX_BODY:
            refuse(f"a record's body has {MAX_BODY} bytes at most")
        try:
            return self._opened(body)
        except CallerError:
            return _text(body)


class Selection:
    """What one caller is shown of a topic."""

    def __init__(self, what: Filter, call: Call, request: Mapping[str, Value], topic: str) -> None:
        self._filter = what
        self._call = call
        self._request = request
        self._topic = topic
        self._passed = PassedOver("the filter")

    def shows(self, record: Record, cursor: str) -> bool:
        """Whether a record is shown. One on which the filter fails is not: what it keeps back it may keep back for a reason."""
        try:
            return self._filter.shows(record, cursor, self._call, self._request)
        except CallerError as error:
            self._passed.note(self._call.id, f"{self._topic}/{record.partition}/{record.offset}", error)
            return False


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return b64encode(data).decode()

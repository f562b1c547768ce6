"""The format `csv`: one record, a line (RFC 4180), as a list of texts; where there is a contract its top-level fields are the
columns, in their order, and its types say what the texts mean, by the rules of a query.
"""

from __future__ import annotations

import re
from typing import NoReturn

from gateway.codec import ABSENT, Codec, Given, Rule, Type, Value
from gateway.errors import CallerError, FieldError, Reason
from gateway.query import Pairs
from gateway.template import text_of

CSV = "text/csv"
MAX_COLUMNS = 1000

_FIELD = re.compile(r'"((?:[^"]|"")*)"|([^",\r\n]*)')
_QUOTED = re.compile(r'[",\r\n]')


def _malformed(why: str) -> NoReturn:
    raise CallerError(Reason.MALFORMED, f"the body is no record of CSV: {why}")


def read(body: bytes) -> list[str]:
    """The fields of one record. Its line end may be there or not; a second record is refused."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise CallerError(Reason.MALFORMED, "the body is not UTF-8") from error
    fields: list[str] = []
    at = 0
    while True:
        found = _FIELD.match(text, at)
        assert found is not None  # noqa: S101  the second way matches nothing too
        quoted = found[1]
        fields.append(found[2] if quoted is None else quoted.replace('""', '"'))
        if len(fields) > MAX_COLUMNS:
            _malformed(f"it has more than {MAX_COLUMNS} fields")
        at = found.end()
        if text[at : at + 1] != ",":
            break
        at += 1
    if text[at:] not in {"", "\n", "\r\n"}:
        _malformed("a quote stands where it may not" if text[at] not in "\r\n" else "it is more than one line")
    return fields


def write(fields: list[str]) -> bytes:
    """One line, without its end: what it is sent in ends it. A field is quoted where it must be; a record of one field that is
    empty is not to be taken for none.
    """
    if fields == [""]:
        return b'""'
    return ",".join(f'"{field.replace(chr(34), chr(34) * 2)}"' if _QUOTED.search(field) else field for field in fields).encode()


def _unsayable(pointer: str, why: str) -> NoReturn:
    raise CallerError(Reason.MALFORMED, f"the message cannot be written as CSV: {why}", details=(FieldError(pointer, why),))


def _field(value: Value, pointer: str) -> str:
    if isinstance(value, dict | list):
        _unsayable(pointer, "a field is a single value")
    return "" if value is None else text_of(value)


class _Untyped:
    def decode(self, body: bytes) -> Value:
        return read(body)

    def encode(self, value: Value) -> bytes:
        if isinstance(value, dict):
            value = list(value.values())
        if not isinstance(value, list) or not value:
            _unsayable("", "a record is a list of fields, or an object of them")
        return write([_field(item, f"/{number}") for number, item in enumerate(value)])


class _Typed:
    def __init__(self, kind: Type) -> None:
        self._kind = kind
        self._columns = columns(kind)
        self._bind = kind.bind(Rule(body=""))

    def decode(self, body: bytes) -> Value:
        return self._kind.check(self._bind(ABSENT, Given(query=named(read(body), self._columns))))

    def encode(self, value: Value) -> bytes:
        canonical = self._kind.check(value)
        return write([_field(canonical.get(column), f"/{column}") for column in self._columns])


def columns(kind: Type) -> tuple[str, ...]:
    """The names of a type's columns. ValueError where it has none."""
    if not kind.columns:
        raise ValueError(f"{kind.name} has no fields that could be columns, so csv cannot carry it")
    return kind.columns


def named(fields: list[str], names: tuple[str, ...]) -> Pairs:
    """Fields by the names of their columns: an empty one says nothing."""
    if len(fields) != len(names):
        _malformed(f"it has {len(fields)} fields, and its columns are {len(names)}")
    return tuple((name, text) for name, text in zip(names, fields, strict=True) if text)


class CsvFormat:
    """See `Format`."""

    name = "csv"
    content_types: tuple[str, ...] = (CSV,)
    typed = False
    opaque = False

    def codec(self, kind: Type | None) -> Codec:
        return _Untyped() if kind is None else _Typed(kind)

    def pairs(self, body: bytes, kind: Type) -> Pairs:
        return named(read(body), columns(kind))


FORMAT = CsvFormat()

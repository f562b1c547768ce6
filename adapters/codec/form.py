"""The format `form`: what a page's form sends, urlencoded or in parts (multipart/form-data), as an object of texts.

A field that stands several times is a list. Where there is a contract its types say what the texts mean, by the rules of a query;
a dotted name is then a field inside another. It is written urlencoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NoReturn
from urllib.parse import urlencode

from gateway.codec import ABSENT, Codec, Given, Rule, Type, Value
from gateway.errors import CallerError, FieldError, Reason
from gateway.query import Pairs, pairs_of
from gateway.template import text_of

MAX_FIELDS = 1000
MAX_PART_HEAD = 2048
"""Bytes of the header of one part."""

_DELIMITER = re.compile(rb"--[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?](?=\r\n)")  # RFC 2046 5.1.1
_HEADER = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\r\n\0]*)\Z")
_PARAMETER = re.compile(r';[ \t]*([a-z*]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s";]+))[ \t]*', re.IGNORECASE)
# A name's quotes and line ends are escaped so by browsers (WHATWG HTML 4.10.21.8).
_ESCAPES = {"%22": '"', "%0D": "\r", "%0A": "\n"}
_ESCAPE = re.compile("%22|%0D|%0A")
_PLAIN = frozenset({"7bit", "8bit", "binary"})
_UTF_8 = frozenset({"utf-8", "utf8", "us-ascii"})


def _malformed(why: str) -> NoReturn:
    raise CallerError(Reason.MALFORMED, f"the form is malformed: {why}")


def read(body: bytes) -> Pairs:
    """The fields of a form, in order. A body that begins with a delimiter and its line end is in parts: none urlencoded does."""
    delimiter = _DELIMITER.match(body) if body[:2] == b"--" else None
    pairs = _urlencoded(body) if delimiter is None else tuple(_parts(body, delimiter[0]))
    if len(pairs) > MAX_FIELDS:
        _malformed(f"it has more than {MAX_FIELDS} fields")
    return pairs


def _urlencoded(body: bytes) -> Pairs:
    if body.count(b"&") >= 2 * MAX_FIELDS:
        _malformed(f"it has more than {MAX_FIELDS} fields")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise CallerError(Reason.MALFORMED, "the form is not UTF-8") from error
    if "\r" in text or "\n" in text or "\0" in text:
        _malformed("a line break stands in it as it is")
    return pairs_of(text, "the form")


def _parts(body: bytes, delimiter: bytes) -> Iterator[tuple[str, str]]:
    """The fields of a form in parts (RFC 7578): each after a delimiter, the last before one that ends in --."""
    if body == delimiter + b"\r\n" and delimiter.endswith(b"--"):
        return  # no field at all: the end comes first
    at = len(delimiter) + 2
    for number in range(MAX_FIELDS + 1):
        if number == MAX_FIELDS:
            _malformed(f"it has more than {MAX_FIELDS} fields")
        head_end = body.find(b"\r\n\r\n", at - 2, at + MAX_PART_HEAD)
        if head_end < 0:
            _malformed("a part has no header, or too long a one")
        start = head_end + 4
        end = body.find(b"\r\n" + delimiter, start)
        if end < 0:
            _malformed("its last part has no end")
        yield _name(body[at:head_end]), _text(body[start:end])
        at = end + 2 + len(delimiter)
        if body[at : at + 2] == b"--":
            if body[at + 2 :] not in {b"", b"\r\n"}:
                _malformed("it goes on behind its end")
            return
        if body[at : at + 2] != b"\r\n":
            _malformed("a line begins as the one between parts does, and goes on otherwise")
        at += 2


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise CallerError(Reason.MALFORMED, "the form is not UTF-8") from error


def _name(head: bytes) -> str:
    """The name of a part. CallerError for a file, and for what is no UTF-8 text."""
    found: str | None = None
    for line in _text(head).split("\r\n"):
        header = _HEADER.match(line)
        if header is None:
            _malformed("a part has a header that is none")
        name, value = header[1].lower(), header[2].strip()
        if name == "content-disposition":
            if found is not None:
                _malformed("a part has two names")
            found = _disposition(value)
        elif name == "content-transfer-encoding" and value.lower() not in _PLAIN:
            _malformed("a part is encoded once more")
        elif name == "content-type":
            charset = _parameters(value).get("charset", "utf-8")
            if charset.lower() not in _UTF_8:
                _malformed("a part has another charset than utf-8")
    if found is None:
        _malformed("a part has no name")
    return found


def _disposition(value: str) -> str:
    parameters = _parameters(value)
    if value.partition(";")[0].strip().lower() != "form-data" or "name" not in parameters:
        _malformed("a part has no name")
    if "filename" in parameters or "filename*" in parameters:
        raise CallerError(
            Reason.MALFORMED, "the form has a file in it, and only fields are taken: send the file as a body of its own"
        )
    return _ESCAPE.sub(lambda escape: _ESCAPES[escape[0]], parameters["name"])


def _parameters(value: str) -> dict[str, str]:
    """The parameters behind a header's value."""
    at = value.find(";")
    parameters: dict[str, str] = {}
    while 0 <= at < len(value):
        found = _PARAMETER.match(value, at)
        if found is None or found[1].lower() in parameters:
            _malformed("a part has a header that is none")
        quoted = found[2]
        parameters[found[1].lower()] = found[3] if quoted is None else re.sub(r'\\(["\\])', r"\1", quoted)
        at = found.end()
    return parameters


def write(value: Value) -> bytes:
    """An object as urlencoded fields: what is inside of objects under dotted names, lists as fields that stand several times,
    nothing for null. CallerError for what a form cannot say.
    """
    if not isinstance(value, dict):
        _unsayable("", "a form is an object")
    return urlencode(list(_fields("", value))).encode()


def _fields(prefix: str, value: dict[str, Value]) -> Iterator[tuple[str, str]]:
    for name, inner in value.items():
        path = prefix + name
        if isinstance(inner, dict):
            yield from _fields(f"{path}.", inner)
            continue
        for item in inner if isinstance(inner, list) else [inner]:
            if isinstance(item, dict | list):
                _unsayable(f"/{path.replace('.', '/')}", "a form has no lists of objects or lists")
            if item is not None:
                yield path, text_of(item)


def _unsayable(pointer: str, why: str) -> NoReturn:
    raise CallerError(Reason.MALFORMED, f"the message cannot be written as a form: {why}", details=(FieldError(pointer, why),))


class _Untyped:
    def decode(self, body: bytes) -> Value:
        fields: dict[str, Value] = {}
        for name, text in read(body):
            if name not in fields:
                fields[name] = text
            elif isinstance(fields[name], list):
                fields[name].append(text)
            else:
                fields[name] = [fields[name], text]
        return fields

    def encode(self, value: Value) -> bytes:
        return write(value)


class _Typed(_Untyped):
    def __init__(self, kind: Type) -> None:
        self._bind = kind.bind(Rule(body=""))
        self._check = kind.check

    def decode(self, body: bytes) -> Value:
        return self._check(self._bind(ABSENT, Given(query=read(body))))


class FormFormat:
    """See `Format`."""

    name = "form"
    content_types: tuple[str, ...] = ("application/x-www-form-urlencoded", "multipart/form-data")
    typed = False
    opaque = False

    def codec(self, kind: Type | None) -> Codec:
        return _Untyped() if kind is None else _Typed(kind)

    def pairs(self, body: bytes, kind: Type) -> Pairs:
        del kind
        return read(body)


FORMAT = FormFormat()

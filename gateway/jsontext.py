"""JSON text, read strictly: what another reader might read otherwise is refused, never guessed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NoReturn, Self

from gateway.codec import Value
from gateway.errors import CallerError, FieldError, Reason

MAX_DEPTH = 100
_INT64 = range(-(2**63), 2**64)  # int64 and uint64 together
_INT64_DIGITS = 20
_INFINITY = float("inf")
_SAFE = 2.0**53
_LARGEST = 2.0**64


def _malformed(why: str, *, pointer: str | None = None, cause: BaseException | None = None) -> NoReturn:
    details = (FieldError(pointer, why),) if pointer is not None else ()
    raise CallerError(Reason.MALFORMED, f"the body is not acceptable JSON: {why}", details=details) from cause


def _integer(text: str) -> int:
    if len(text) <= _INT64_DIGITS + 1 and (number := int(text)) in _INT64:
        return number
    _malformed("an integer is beyond 64 bits")


class Digits(float):
    """A float that remembers how it was written: one so large may be the nearest to several whole numbers."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Self:
        number = super().__new__(cls, text)
        number.text = text
        return number


def _float(text: str) -> float:
    number = float(text)
    if number in {_INFINITY, -_INFINITY}:
        _malformed("a number is beyond what a double holds")
    # Only what may be an integer of 64 bits is worth its digits.
    return Digits(text) if _SAFE <= abs(number) <= _LARGEST else number


def _constant(_text: str) -> NoReturn:
    _malformed("NaN and Infinity are no JSON numbers")


def _object(pairs: Sequence[tuple[str, Value]]) -> dict[str, Value]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                _malformed("a key stands twice in one object")
            seen.add(name)
    return value


def _check_depth(text: str) -> None:
    """Nesting over MAX_DEPTH is refused before the parser, which recurses, sees it. Brackets inside strings do not count."""
    depth = 0
    inside = escaped = False
    for char in text:
        if inside:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                inside = False
        elif char == '"':
            inside = True
        elif char in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                _malformed(f"it is nested deeper than {MAX_DEPTH}")
        elif char in "]}":
            depth -= 1


_OPENING = frozenset("{[")
_decoder = json.JSONDecoder(parse_int=_integer, parse_float=_float, parse_constant=_constant, object_pairs_hook=_object)
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False)


def _parsed(text: str) -> Value:
    """`decode`, less its two searches for white space, which most bodies have neither before nor after."""
    if text[:1] in _OPENING:
        value, end = _decoder.raw_decode(text)
        if end == len(text):
            return value
    return _decoder.decode(text)


def loads(body: bytes) -> Value:
    """The plain value of strict JSON (RFC 8259 in UTF-8, no BOM; no duplicate key, no number that would not survive)."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        _malformed("it is not UTF-8", cause=error)
    if len(text) > MAX_DEPTH and text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(text)
    try:
        value = _parsed(text)
    except json.JSONDecodeError as error:
        why = error.msg.split(": ")[0].removesuffix(" at")
        _malformed(f"{why[:1].lower()}{why[1:]} at byte {len(text[: error.pos].encode())}", cause=error)
    if "\\u" in text:
        dumps(value)  # finds a lone surrogate, which has no UTF-8
    return value


def dumps(value: Value) -> bytes:
    """Compact JSON in UTF-8."""
    try:
        return _encoder.encode(value).encode()
    except UnicodeEncodeError as error:
        _malformed("a lone surrogate is no character", cause=error)

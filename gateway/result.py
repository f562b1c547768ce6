"""What an expression gives: plain values as JSON has them, made of the library's own; and what its errors are called."""

from __future__ import annotations

import logging
import re
from base64 import b64encode
from datetime import datetime, timedelta
from math import isfinite
from typing import Any, NoReturn

from gateway.codec import Value
from gateway.errors import CallerError, FieldError, Reason

log = logging.getLogger("polygate")

MAX_RESULT = 4 << 20
"""Bytes of a result, about."""

_ITEM = 8  # what a number, a bracket or a comma counts
_KEY = re.compile(r'Key not found in map : "(.*)"', re.DOTALL)
# What the library says, and what the caller is told: its own words would name types and repeat the input.
_FAILURES = (
    ("Index error", "a list is shorter than it needs"),
    ("No matching overloads", "a value is of another type than it needs"),
    ("divide by zero", "it divides by zero"),
    ("modulus by zero", "it divides by zero"),
    ("OUT_OF_RANGE", "a number is out of range"),
    ("cannot convert", "a text is not what it needs"),
)


class PassedOver:
    """The records that one caller is not shown since an expression failed on them: counted, and told less and less often."""

    def __init__(self, what: str) -> None:
        self._what = what
        self.count = 0

    def note(self, exchange_id: str, place: str, error: CallerError) -> None:
        """One more; told at the first, the second, the fourth: a topic full of them is no log full of them."""
        self.count += 1
        if self.count & (self.count - 1) == 0:
            told = (exchange_id, self._what, self.count, place, error.message)
            log.warning("exchange %s: %s failed on %d records, which were passed over; the latest is %s: %s", *told)


def refuse(why: str, cause: BaseException | None = None) -> NoReturn:
    """What is given is more than an expression may be given."""
    raise CallerError(Reason.TOO_LARGE, f"the message is too large to be worked on: {why}") from cause


def fail(why: str, cause: BaseException | None = None) -> NoReturn:
    """What is given is not what an expression needs."""
    text = f"the message is not what this route needs: {why}"
    raise CallerError(Reason.MALFORMED, text, details=(FieldError("", why),)) from cause


def _failure(status: str, text: str) -> NoReturn:
    """An evaluation that ended in an error. A name is told only where the expression itself says it: nothing of the input is."""
    key = _KEY.search(status)
    if key is not None:
        fail(f"{key[1]} is missing" if key[1] in text else "a field is missing")
    fail(next((why for what, why in _FAILURES if what in status), "a value is not what it needs"))


def plain(value: Any, text: str) -> Value:
    """A result of the library as plain values; `text` is the expression. CallerError where it is an error, or too large."""
    return _plain(value, [MAX_RESULT], text)


def _plain(value: Any, left: list[int], text: str) -> Value:
    """A result as JSON has it (CEL's own conversion: bytes in base64, times as RFC 3339). What it makes is bounded as it is made.

    Never `value.value()` of a null: the library gives away a reference to None that it does not own, and Python 3.11 counts them.
    """
    kind = value.type().name().partition("<")[0]
    left[0] -= _ITEM
    if left[0] < 0:
        refuse(f"a result has more than {MAX_RESULT >> 20} MiB")
    if kind == "NULL":
        return None
    try:
        found = value.value()
    except (SystemError, TypeError):
        fail("an optional value stands where a value is needed: end it with orValue")
    if kind in {"BOOL", "INT", "UINT"}:
        return found
    if kind == "LIST":
        return [_plain(item, left, text) for item in found]
    if kind == "MAP":
        # The library keeps no order: made here, so that the same message is the same bytes.
        return {_key(key, left): _plain(found[key], left, text) for key in sorted(found, key=_sorting)}
    if kind == "ERROR":
        _failure(found, text)
    return _scalar(kind, found, left)


def _scalar(kind: str, found: Any, left: list[int]) -> Value:
    if kind in {"STRING", "BYTES"}:
        left[0] -= len(found)
        return found if kind == "STRING" else b64encode(found).decode()
    if kind == "DOUBLE":
        return found if isfinite(found) else fail("a number is beyond what JSON can say")
    if kind == "TIMESTAMP":
        return _timestamp(found)
    if kind == "DURATION":
        return _duration(found)
    return fail("a result is nothing that JSON can say")


def _sorting(key: object) -> tuple[str, object]:
    return type(key).__name__, key


def _key(key: object, left: list[int]) -> str:
    name = key if isinstance(key, str) else str(key).lower()  # a bool's is true or false
    left[0] -= len(name)
    return name


def _timestamp(value: datetime) -> str:
    return value.isoformat().replace("+00:00", "Z")


def _duration(value: timedelta) -> str:
    """As in proto3 JSON: seconds with no, three or six digits behind the point."""
    micros = value // timedelta(microseconds=1)
    seconds, rest = divmod(abs(micros), 1_000_000)
    fraction = f".{rest:06d}".removesuffix("000") if rest else ""
    return f"{'-' if micros < 0 else ''}{seconds}{fraction}s"

"""Scalars: what JSON says of them, as values that can be packed.

A generated reader looks at the common case itself. Whatever else stands there comes here, and is converted or refused.
"""

from __future__ import annotations

import re
import struct
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import NoReturn

from adapters.codec.protobuf.wrong import InexactError, WrongError
from gateway.codec import Value
from gateway.jsontext import Digits

FLOAT_MAX = float.fromhex("0x1.fffffefffffffp+127")
"""The last double that a float of 32 bits holds when rounded: its own largest is written as 3.4028235e+38, which is beyond it."""
DOUBLE_MAX = float.fromhex("0x1.fffffffffffffp+1023")
_SAFE = 2**53
"""From here on a float may stand for more than one whole number."""
_BEYOND = range(-(2**63), 2**64)
_DIGITS = 20
# JSON's own digits: int() would take "1_0", "+3", white space and the digits of other scripts.
_NUMBER = re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_WHOLE = re.compile(r"-?[0-9]+", re.ASCII)
_NAMED = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_BASE64 = re.compile(r"([A-Za-z0-9+/_-]*)={0,2}", re.ASCII)
_STANDARD = str.maketrans("-_", "+/")

pack_float = struct.Struct("<f").pack
pack_double = struct.Struct("<d").pack
pack_fixed32 = struct.Struct("<I").pack
pack_fixed64 = struct.Struct("<Q").pack
pack_sfixed32 = struct.Struct("<i").pack
pack_sfixed64 = struct.Struct("<q").pack


def not_a_string(_value: Value) -> NoReturn:
    """What a reader does with another value."""
    raise WrongError("is not a string")


def not_a_bool(_value: Value) -> NoReturn:
    """The same."""
    raise WrongError("is not true or false")


def not_an_array(_value: Value) -> NoReturn:
    """The same."""
    raise WrongError("is not an array")


def _whole(text: str) -> int | None:
    """The whole number that a decimal says, exactly; None where it has a fraction or is far beyond 64 bits."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    if not number:
        return 0
    if number.adjusted() >= _DIGITS or number != number.to_integral_value():
        return None
    return int(number)


def integer(value: Value) -> int:
    """A whole number, of whatever JSON value may say one (`1.0` and `1e2` may)."""
    number: int | None = None
    if type(value) is int:
        number = value
    elif type(value) is float:
        if abs(value) >= _SAFE:
            raise InexactError("is a whole number in floating point, too large to be exact")
        number = int(value) if value.is_integer() else None
    elif isinstance(value, Digits):
        number = _whole(value.text)
    elif type(value) is str:
        number = _whole(value) if _NUMBER.fullmatch(value) else None
    if number is None:
        raise WrongError("is not a whole number")
    return number


def ranged(low: int, high: int, name: str) -> Callable[[Value], int]:
    """The converter of one kind of integer."""

    def convert(value: Value) -> int:
        number = integer(value)
        if low <= number <= high:
            return number
        raise WrongError(f"is beyond the range of {name}")

    return convert


int32 = ranged(-(2**31), 2**31 - 1, "a signed integer of 32 bits")
uint32 = ranged(0, 2**32 - 1, "an unsigned integer of 32 bits")
int64 = ranged(-(2**63), 2**63 - 1, "a signed integer of 64 bits")
uint64 = ranged(0, 2**64 - 1, "an unsigned integer of 64 bits")


def double(value: Value, limit: float = DOUBLE_MAX) -> float:
    """A double, of whatever JSON value may say one."""
    if type(value) is str:
        named = _NAMED.get(value)
        if named is not None:
            return named
        if not _NUMBER.fullmatch(value):
            raise WrongError("is not a number")
        number = float(value)
    elif type(value) is int:
        if value not in _BEYOND:
            raise WrongError("is an integer beyond 64 bits")
        number = float(value)
    elif isinstance(value, float):
        number = float(value)
    else:
        raise WrongError("is not a number")
    if not -limit <= number <= limit:
        raise WrongError("is beyond what the field holds")
    return number


def float32(value: Value) -> float:
    """A float of 32 bits."""
    return double(value, FLOAT_MAX)


def base64(value: Value) -> bytes:
    """Bytes of either alphabet of base64 (RFC 4648, 4 and 5), with padding or without."""
    if type(value) is not str:
        raise WrongError("is not a string in base64")
    try:
        return a2b_base64(value, strict_mode=True)
    except ValueError:  # the parent of binascii's own error: a string that is not ASCII is the other one
        pass
    found = _BASE64.fullmatch(value)
    if found is None:
        raise WrongError("is not base64")
    text = found[1].translate(_STANDARD)
    try:
        return a2b_base64(text + "=" * (-len(text) % 4))
    except Base64Error as error:
        raise WrongError("is not base64") from error


def enum(names: Mapping[str, int], *, closed: bool, lenient: bool) -> Callable[[Value], int | None]:
    """The converter of an enum's values that are no names of its own. None: leave it out, for it is not known (`lenient`)."""
    known = frozenset(names.values())

    def convert(value: Value) -> int | None:
        if type(value) is str:
            if value in names:
                return names[value]
            if not _WHOLE.fullmatch(value):
                if lenient:
                    return None
                raise WrongError("is no value of its enum")
        number = int32(value)
        if closed and number not in known:
            raise WrongError("is no value of its enum")
        return number

    return convert


def flag(text: str) -> bool:
    """A bool as a map's key."""
    if text == "true":
        return True
    if text == "false":
        return False
    raise WrongError("is a key that is not true or false")

"""Scalars as JSON text."""

from __future__ import annotations

import json.encoder
from binascii import b2a_base64
from math import isfinite
from struct import Struct
from typing import Any

from adapters.codec.protobuf.wrong import WrongError

# The C function where there is one. What is not ASCII stays as it is, in UTF-8.
quote = json.encoder.encode_basestring
truth = ("false", "true")
_float32 = Struct("<f")


def checked(value: Any) -> str:
    """A string of a type whose strings need not be UTF-8: the runtime gives such as bytes."""
    if type(value) is not str:
        raise WrongError("is not UTF-8")
    return quote(value)


def base64(value: bytes) -> str:
    """The standard alphabet, with padding."""
    return f'"{b2a_base64(value, newline=False).decode()}"'


def double(value: float) -> str:
    """The shortest number that is the same double."""
    if isfinite(value):
        return repr(value)
    return '"NaN"' if value != value else '"Infinity"' if value > 0 else '"-Infinity"'  # noqa: PLR0124  so a NaN is known


def float32(value: float) -> str:
    """The shortest number that is the same float of 32 bits."""
    if not isfinite(value):
        return double(value)
    for precision in (6, 7, 8):
        short = float(f"{value:.{precision}g}")
        try:
            if _float32.unpack(_float32.pack(short))[0] == value:
                return repr(short)
        except OverflowError:
            continue  # rounded up, beyond the largest
    return repr(float(f"{value:.9g}"))

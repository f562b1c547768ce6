"""JSON text to values, for readers that know the type: the parser looks at what they cannot, and leaves the rest to them.

An object is a tuple of its pairs, so that the reader sees a name that stands twice, and can say where. Integers and floats
are bounded by the fields that take them.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from gateway.codec import Value
from gateway.jsontext import Digits, loads

_SPACE = " \t\n\r"


def _constant(_text: str) -> NoReturn:
    raise ValueError("NaN and Infinity are no JSON numbers")


def _scanner(**hooks: Any) -> Any:
    """The parser's C function alone; what goes round it in `decode` costs as much as a small message."""
    decoder: Any = json.JSONDecoder(object_pairs_hook=tuple, parse_constant=_constant, **hooks)
    return decoder.scan_once


scan_once = _scanner()
"""A text's value from an index on, and where it ends. Raises StopIteration, ValueError or RecursionError."""
_scan_digits = _scanner(parse_float=Digits)


def scan(body: bytes, *, digits: bool = False) -> Value:
    """The value of a JSON text (RFC 8259). Raises CallerError, as the strict parser does. `digits`: floats keep theirs."""
    try:
        text = body.decode()
        value, end = (_scan_digits if digits else scan_once)(text, 0 if text[:1] == "{" else len(text) - len(text.lstrip(_SPACE)))
        if end == len(text) or not text[end:].strip(_SPACE):
            return value
    except (ValueError, StopIteration, RecursionError):
        pass
    loads(body)  # says what is wrong with it, and where
    raise AssertionError("the strict parser takes nothing that the scanner does not")

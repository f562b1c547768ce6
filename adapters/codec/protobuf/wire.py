"""The wire form's smallest parts (protobuf's encoding.md): varints and tags."""

from __future__ import annotations

from functools import cache

VARINT, FIXED64, DELIMITED, START, END, FIXED32 = range(6)

_ALL = 2**64 - 1
_BITS = 14
_MASK = (1 << _BITS) - 1
# Large numbers are common (times, ids), and a loop over their bytes would cost as much as the rest of a field: two at a time.
KNOWN = 1 << _BITS
SMALL = tuple(bytes((low & 0x7F | 0x80, low >> 7)) if low >> 7 else bytes((low,)) for low in range(KNOWN))
"""The numbers of one byte and of two."""
_GOING_ON = tuple(bytes((low & 0x7F | 0x80, low >> 7 | 0x80)) for low in range(KNOWN))


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; a negative number is its 64-bit two's complement."""
    if number < 0:
        number &= _ALL
    out = b""
    while number > _MASK:
        out += _GOING_ON[number & _MASK]
        number >>= _BITS
    return out + SMALL[number]


TABLED = 128


@cache
def table(head: bytes) -> tuple[bytes, ...]:
    """A tag with each number of one byte behind it."""
    return tuple(head + number for number in SMALL[:TABLED])


def headed(head: bytes, body: bytes) -> bytes:
    """A body with its tag and its length before it."""
    length = len(body)
    return head + (SMALL[length] if length < KNOWN else varint(length)) + body


def sized(body: bytes) -> bytes:
    """A body with its length before it."""
    length = len(body)
    return (SMALL[length] if length < KNOWN else varint(length)) + body


def tag(number: int, wire_type: int) -> bytes:
    """The key before a field's value."""
    return varint(number << 3 | wire_type)

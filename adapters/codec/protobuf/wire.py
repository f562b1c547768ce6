"""The wire form's smallest parts (protobuf's encoding.md): varints and tags."""

from __future__ import annotations

KNOWN = 2048
_ALL = 2**64 - 1
_LAST = 0x7F


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; a negative number is its 64-bit two's complement."""
    if number < 0:
        number &= _ALL
    if number < 1 << 14:
        return bytes((number & 0x7F | 0x80, number >> 7)) if number > _LAST else bytes((number,))
    if number < 1 << 28:
        head = bytes((number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80))
        number >>= 14
        return head + (bytes((number & 0x7F | 0x80, number >> 7)) if number > _LAST else bytes((number,)))
    out = bytearray()
    while number > _LAST:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


SMALL = tuple(varint(number) for number in range(KNOWN))
"""Most lengths, and most numbers."""


def sized(body: bytes) -> bytes:
    """A body with its length before it."""
    length = len(body)
    return (SMALL[length] if length < KNOWN else varint(length)) + body


def tag(number: int, wire_type: int) -> bytes:
    """The key before a field's value."""
    return varint(number << 3 | wire_type)


VARINT, FIXED64, DELIMITED, START, END, FIXED32 = range(6)

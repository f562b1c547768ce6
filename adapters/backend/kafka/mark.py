"""What a commit says beside its offset: which of the records behind it are done with too, so that they need not come again.

An offset alone says that everything before it is done with. Where records run side by side, one that waits holds it back, however
many behind it are done with; the text that Kafka keeps with an offset has room to name them.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Collection

PREFIX = "polygate/1:"
# A broker takes 4,096 bytes (offset.metadata.max.bytes); base64 makes four of three.
SPAN = 20_000


def mark(at: int, beyond: Collection[int]) -> str:
    """The offsets `beyond` the offset `at`, as far as there is room for them: a bit each, counted from `at`."""
    bits = 0
    for offset in beyond:
        if offset - at < SPAN:
            bits |= 1 << (offset - at)
    return PREFIX + b64encode(bits.to_bytes((bits.bit_length() + 7) // 8, "little")).decode() if bits else ""


def marked(at: int, text: str) -> frozenset[int]:
    """The offsets that a commit at `at` names; none where somebody else has written it."""
    if not text.startswith(PREFIX):
        return frozenset()
    try:
        bits = int.from_bytes(b64decode(text.removeprefix(PREFIX), validate=True), "little")
    except (Error, ValueError):
        return frozenset()
    return frozenset(at + number for number in range(min(bits.bit_length(), SPAN)) if bits >> number & 1)

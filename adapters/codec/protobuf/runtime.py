"""What protobuf's own runtime makes of a type."""

from __future__ import annotations

import sys
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message_factory import GetMessageClass

_FRAMES = 200_000
"""Of Python alone, so on the heap: two for each type of the longest chain that a contract may have."""


def class_of(descriptor: Descriptor) -> Any:
    """The class of a type's messages. The runtime makes those of all types that it leads to with it, one inside another."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + _FRAMES)
    try:
        return GetMessageClass(descriptor)
    finally:
        sys.setrecursionlimit(limit)

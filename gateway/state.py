"""The port of what the gateway keeps for longer than it runs: a durable map, its own or shared with other gateways.

Idempotency keys, results that are fetched later and the cursors of named subscribers are kept in it. Each user prefixes its keys
("idempotency:...") and has values of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class State(Protocol):
    """A durable map from text to bytes. Every method may be used by many tasks at once."""

    @property
    def shared(self) -> bool:
        """Whether other gateways may use it while this one does."""

    async def get(self, key: str) -> bytes | None:
        """The value of a key; None where there is none, or where its time is over. BackendError(UNREACHABLE)."""

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        """Set a value for so many seconds: durable, and seen by every gateway that shares it, once this returns.

        BackendError: UNREACHABLE (it is not set), UNKNOWN_OUTCOME (it may be), OVERLOADED (too much is kept). CallerError:
        TOO_LARGE.
        """

    async def claim(self, key: str, value: bytes, seconds: float, *, over: bytes | None = None) -> bytes | None:
        """Set a value where there is none or, where `over` is told, nothing but that, and return None; else return what is there.
        Of several gateways one succeeds. An error says that this one has not.

        BackendError: UNREACHABLE, OVERLOADED (too much is kept). What was cancelled or failed is let go again once it is found.
        """

    async def changed(self, key: str, known: bytes | None) -> bytes | None:
        """Wait until the value of a key is another than `known` (by whichever gateway), and return it. Cancel it to give up."""

    async def drop(self, key: str, *, known: bytes | None = None) -> None:
        """Let a key go; where `known` is told, only if that is its value. Raises what `put` does."""

    async def all(self, prefix: str) -> Mapping[str, bytes]:
        """Every key that begins so, with its value: for who goes on with what others have left. BackendError(UNREACHABLE)."""

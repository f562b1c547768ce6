"""What can go wrong with a file: surely not written, or in doubt; for now, or for good."""

from __future__ import annotations


class StoreError(Exception):
    """The file cannot be used. `fatal`: nor will it be; nothing more may be written to it."""

    def __init__(self, message: str, *, fatal: bool = False) -> None:
        super().__init__(message)
        self.fatal = fatal


class InDoubtError(StoreError):
    """A transaction may or may not be on the disk."""

"""The disk that a log is on: how much of it is free."""

from __future__ import annotations

import os
from pathlib import Path


class Room:
    """Asks the disk anew each time: others write to it as well."""

    def __init__(self, path: str) -> None:
        self._path = path

    def free(self) -> int:
        """How many bytes can be written, as far as the file system says."""
        disk = os.statvfs(self._path)
        return disk.f_bavail * disk.f_frsize

    def log(self) -> int:
        """How many bytes the write-ahead log has on the disk: what is folded is written over."""
        return Path(f"{self._path}-wal").stat().st_size

"""Who may open a file: one process at a time, said by a lock beside it that the kernel lets go of if we are killed."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO


class LockError(Exception):
    """The path cannot be locked; the text says why."""


class InUseError(LockError):
    """Another process has it."""


def locked(path: str) -> IO[str]:
    """The lock of a path, with its folder made. Held until closed. Raises LockError."""
    try:
        _folder(Path(path).absolute().parent)
        lock = Path(f"{path}.lock").open("a+", encoding="ascii")  # noqa: SIM115  open for as long as the store is
    except OSError as error:
        raise LockError(f"{path} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        holder = lock.read(20).strip()
        lock.close()
        raise InUseError(f"{path} is in use by process {holder}: a local log has one process") from error
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _folder(folder: Path) -> None:
    """Make a folder where it is not there, and its name durable."""
    if folder.is_dir():
        return
    _folder(folder.parent)
    folder.mkdir(exist_ok=True)
    parent = os.open(folder.parent, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)

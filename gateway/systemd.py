"""What systemd is told (sd_notify) and what it hands over (sockets: sd_listen_fds), where it started the process."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping, Sequence

FIRST = 3
"""The first of the descriptors that are handed over (SD_LISTEN_FDS_START)."""
UNNAMED = "unknown"


def notify(state: str) -> None:
    """Say how the process is, to whoever asked for it by NOTIFY_SOCKET: READY=1, STOPPING=1."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    # A leading @ stands for the NUL of an abstract name.
    address = f"\0{path[1:]}" if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.settimeout(1.0)
        one.sendto(state.encode(), address)


def reloading() -> None:
    """Say that a reload begins; READY=1 says that it has ended. With the time, as Type=notify-reload wants it."""
    notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")


def handed_over(environment: MutableMapping[str, str]) -> Sequence[tuple[str, socket.socket]]:
    """The listening sockets that were handed over, with their names (FileDescriptorName=). What says so is taken out of the
    environment, so that no child believes them to be its own. Raises ValueError.
    """
    pid, count, names = (environment.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES"))
    if not count or pid != str(os.getpid()):
        return ()
    if not count.isdecimal():
        raise ValueError(f"LISTEN_FDS is no number: {count!r}")
    called = names.split(":") if names else []
    return [(called[number] if number < len(called) else UNNAMED, opened(FIRST + number)) for number in range(int(count))]


def opened(descriptor: int) -> socket.socket:
    """A socket that somebody else has opened; no child of ours is to have it. Raises ValueError where it is none over TCP."""
    try:
        os.set_inheritable(descriptor, False)
        one = socket.socket(fileno=descriptor)
    except OSError as error:
        raise ValueError(f"descriptor {descriptor} was handed over, and is no socket: {error.strerror}") from error
    if one.family not in {socket.AF_INET, socket.AF_INET6} or one.type != socket.SOCK_STREAM:
        one.detach()
        raise ValueError(f"descriptor {descriptor} was handed over, and is no socket of TCP")
    return one

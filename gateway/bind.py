"""Where listeners listen: what a `bind` says, and the sockets for it."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

MAX_PORT = 65_535
UNSENT_BYTES = 64 << 10


def _bindable(bind: str) -> str:
    host, separator, port = bind.rpartition(":")
    bare = ":" in host and not (host.startswith("[") and host.endswith("]"))
    if not separator or bare or not (port.isascii() and port.isdigit()) or int(port) > MAX_PORT:
        raise ValueError("must be host:port, as in 127.0.0.1:8080 or [::1]:8080")
    return bind


Bind = Annotated[str, AfterValidator(_bindable), Field(examples=["127.0.0.1:8080", "[::1]:8080", "0.0.0.0:0"])]
"""host:port; port 0 takes a free one."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a listener really listens, once it does."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def split_bind(bind: str) -> tuple[str, int]:
    """Host and port of a `bind`; brackets around an IPv6 address come off."""
    host, _, port = bind.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def limit_unsent(listening: socket.socket) -> None:
    """Bound what the kernel holds unsent for each connection of a listening socket, where it can (Linux, macOS).

    It counts in a container's memory, and without this it is a few MiB for every caller that stops reading.
    """
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None:
        listening.setsockopt(socket.IPPROTO_TCP, option, UNSENT_BYTES)


Listen = Callable[[str, str, int], Sequence[socket.socket]]
"""listen(name, bind, backlog): the sockets of the listener of that name, listening, one for each address that the host of its
`bind` has; whoever asks closes them. Raises OSError.
"""


def listen(_name: str, bind: str, backlog: int) -> Sequence[socket.socket]:
    """See `Listen`: sockets of one's own."""
    host, port = split_bind(bind)
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with ExitStack() as stack:
        opened = []
        for family, _, _, _, address in dict.fromkeys(found):
            one = _opened(family, address, backlog)
            if one is not None:
                opened.append(stack.enter_context(one))
        if not opened:
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
        stack.pop_all()
    return opened


def _opened(family: int, address: tuple[object, ...], backlog: int) -> socket.socket | None:
    """One socket; None where this machine does not have the family."""
    try:
        one = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        if error.errno in {errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT}:
            return None
        raise
    try:
        # As a restart finds connections of the process before still waiting to be forgotten.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        limit_unsent(one)
        one.setblocking(False)
        one.bind(address)
        one.listen(backlog)
    except BaseException:
        one.close()
        raise
    return one

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


def listen(_name: str, bind: str, backlog: int, *, reuse_port: bool = False) -> Sequence[socket.socket]:
    """See `Listen`: sockets of one's own. `reuse_port`: others may have the same ports, if they say so too."""
    opened = bound(bind, reuse_port=reuse_port)
    with ExitStack() as stack:
        for one in opened:
            stack.enter_context(one)
        for one in opened:
            one.listen(backlog)
        stack.pop_all()
    return opened


def shared(bind: str, count: int) -> Sequence[Sequence[socket.socket]]:
    """Sockets for a `bind`, bound as `bound` has them, so often: processes that listen on them share its ports, and the kernel
    spreads connections over them. Raises OSError where anybody else has a port.
    """
    with ExitStack() as stack:
        # Without SO_REUSEPORT a port is refused that others of the same user share.
        for one in bound(bind):
            one.close()
        sets: list[list[socket.socket]] = [[] for _ in range(count)]
        for first in bound(bind, reuse_port=True):
            sets[0].append(stack.enter_context(first))
            for more in sets[1:]:
                other = _bound(first.family, first.getsockname(), reuse_port=True)
                assert other is not None  # noqa: S101  the machine has the family: the first is of it
                more.append(stack.enter_context(other))
        stack.pop_all()
    return sets


def again(one: socket.socket) -> socket.socket:
    """A socket that does not listen, in the place of one that `shared` has made, which is closed. Raises OSError."""
    family, address = one.family, one.getsockname()
    one.close()
    other = _bound(family, address, reuse_port=True)
    assert other is not None  # noqa: S101  the machine has the family
    return other


def bound(bind: str, *, reuse_port: bool = False) -> Sequence[socket.socket]:
    """The sockets for a `bind`, one for each address that its host has; they do not listen yet. Raises OSError."""
    host, port = split_bind(bind)
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with ExitStack() as stack:
        opened = []
        for family, _, _, _, address in dict.fromkeys(found):
            one = _bound(family, address, reuse_port=reuse_port)
            if one is not None:
                opened.append(stack.enter_context(one))
        if not opened:
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
        stack.pop_all()
    return opened


def _bound(family: int, address: tuple[object, ...], *, reuse_port: bool) -> socket.socket | None:
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
        if reuse_port:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        limit_unsent(one)
        one.setblocking(False)
        one.bind(address)
    except BaseException:
        one.close()
        raise
    return one

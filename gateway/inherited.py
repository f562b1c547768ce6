"""Listening sockets that another process has opened for this one, so that they outlive it: a connection that comes while the
gateway is away waits for the next one, and is never refused.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from types import MappingProxyType
from typing import Self

from gateway.bind import Address, limit_unsent, listen, split_bind

NOTHING: Mapping[str, str] = MappingProxyType({})


def outdated(opened: Mapping[str, str], binds: Mapping[str, str]) -> Sequence[str]:
    """The listeners that say something else than when their sockets were opened, or are no more."""
    return [name for name, bind in opened.items() if binds.get(name) != bind]


class Inherited:
    """The sockets, by the names of their listeners. Closed when it is left, or earlier."""

    def __init__(
        self, sockets: Mapping[str, Sequence[socket.socket]], binds: Mapping[str, str] = NOTHING, *, reuse_port: bool = False
    ) -> None:
        """`binds`: what listeners said when theirs were opened: they are for nobody who says otherwise. `reuse_port`: a listener
        that nothing was handed over for shares its port with other processes.
        """
        self._sockets = dict(sockets)
        self._binds = binds
        self._reuse_port = reuse_port
        self._open = ExitStack()
        for some in sockets.values():
            for one in some:
                self._open.enter_context(one)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def of(self, name: str) -> Sequence[socket.socket]:
        """Those of a listener."""
        return self._sockets.get(name, ())

    def listen(self, name: str, bind: str, backlog: int) -> Sequence[socket.socket]:
        """See `Listen`: those that were handed over for a listener, else sockets of one's own."""
        if not (held := self._sockets.get(name)) or self._binds.get(name, bind) != bind:
            return listen(name, bind, backlog, reuse_port=self._reuse_port)
        return [_listening(one, backlog) for one in held]

    def keep(self, binds: Mapping[str, str]) -> None:
        """Let go of those that were opened for what no listener says any more."""
        for name in outdated(self._binds, binds):
            for one in self._sockets.pop(name, ()):
                one.close()

    def close(self) -> None:
        """Let go of them: from now on nobody waits on them for us. What a listener has it keeps."""
        self._sockets.clear()
        self._open.close()


NONE = Inherited({})
"""Every listener opens its own."""


def _listening(held: socket.socket, backlog: int) -> socket.socket:
    one = held.dup()
    try:
        limit_unsent(one)
        one.setblocking(False)
        one.listen(backlog)
    except BaseException:
        one.close()
        raise
    return one


def assigned(given: Iterable[tuple[str, socket.socket]], binds: Mapping[str, str]) -> Inherited:
    """Give each socket to the listener of its name or, where none is called so, to the one that is to listen on its address.

    `binds`: of the listeners that can take one. Raises ValueError for a socket that is nobody's: callers would wait on it for
    ever.
    """
    given = list(given)
    found: dict[str, list[socket.socket]] = {}
    for name, one in given:
        owner = name if name in binds else next((other for other, bind in binds.items() if _is_for(one, bind)), None)
        if owner is None:
            text = f"the socket {name!r} ({_address(one)}) was handed over, and no listener takes it"
            for _, other in given:
                other.close()
            raise ValueError(f"{text}: call it by a listener's name ({', '.join(binds)}), or bind one to its address")
        found.setdefault(owner, []).append(one)
    return Inherited(found)


def _address(one: socket.socket) -> Address:
    host, port = one.getsockname()[:2]
    return Address(host, port)


def _is_for(one: socket.socket, bind: str) -> bool:
    """Whether it listens on an address of a `bind`. One that takes both families has the wildcard of either."""
    has = _address(one)
    host, port = split_bind(bind)
    if port != has.port:
        return False
    if has.host == "::" and not one.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        return host in {"", "::", "0.0.0.0"}  # noqa: S104  compared
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return any(address[0] == has.host for _, _, _, _, address in found)

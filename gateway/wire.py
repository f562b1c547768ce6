"""A protocol that a listener speaks, as the routes that are served by it see it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.codec import MESSAGE, Contract, HttpBinding, Rule
from gateway.message import Many


@dataclass(frozen=True, slots=True)
class Wire:
    """One protocol that a listener speaks."""

    protocol: str
    """The `call.protocol` of its exchanges."""
    pattern: Callable[[str], tuple[str, str]]
    """What a route says under `when:`, as (method, path pattern). Raises ValueError."""
    shape: Callable[[Contract | None], Many]
    """Which sides may carry more than one message, for a route with this contract."""
    rule: Callable[[str], Rule] = lambda _method: MESSAGE
    """How a request of a method stands for one message, unless the route says."""
    each: bool = True
    """Where a caller may send many messages and the target answers one with one, every message is an exchange of its own.
    False: such a target has one message of a caller of this wire.
    """
    calls: Callable[[Contract], Sequence[HttpBinding]] = lambda _contract: ()
    """The calls that a method of a service has where the service is served whole."""


_METHOD = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*/[A-Za-z_]\w*\Z", re.ASCII)


def method_wire(protocol: str) -> Wire:
    """A protocol whose calls are methods by their full names: gRPC, and what carries it over HTTP/1.1."""

    def pattern(when: str) -> tuple[str, str]:
        if not _METHOD.match(when):
            raise ValueError("a gRPC method is written package.Service/Method")
        return "", f"/{when}"

    def calls(contract: Contract) -> Sequence[HttpBinding]:
        return (HttpBinding("", contract.name),)

    return Wire(protocol, pattern, lambda contract: Many.BOTH if contract is None else contract.many, calls=calls)

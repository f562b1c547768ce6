"""What a protocol on this port is. Further ones are one class each: nothing else asks what a request speaks."""

from __future__ import annotations

from typing import Protocol

from adapters.ingress.rest.asked import Asked
from adapters.ingress.rest.exchange import HttpExchange
from gateway.route import Endpoint


class HttpProtocol(Protocol):
    """One of them. The first that a request matches has it."""

    def matches(self, asked: Asked) -> bool:
        """Whether a request speaks it."""

    def open(self, asked: Asked) -> tuple[HttpExchange, Endpoint]:
        """The exchange of a request, in the words of this protocol, and what will answer it: its route or a refusal. Raises
        GatewayError for what is no request of any protocol.
        """

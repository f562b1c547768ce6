"""What the gateway serves, described for programs: OpenAPI, AsyncAPI and the contract, generated from the plan of a config."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from gateway.bind import Address, split_bind
from gateway.description.asyncapi import asyncapi
from gateway.description.openapi import openapi
from gateway.listener import Document, ListenerConfig
from gateway.message import JSON, PROTOBUF, compact
from gateway.plan import Plan

_ANYWHERE = frozenset({"", "0.0.0.0", "::"})  # noqa: S104  told to callers as this machine
NOT_YET: Mapping[str, Address] = {}
"""Where listeners listen that do not yet."""


def servers(plan: Plan, addresses: Mapping[str, Address]) -> tuple[str, ...]:
    """Where callers reach the REST listeners, as URLs: as the file says, or where they listen, or will."""
    return plan.config.file.documents.servers or tuple(_reached(plan, addresses, "rest", "http").values())


def sockets(plan: Plan, addresses: Mapping[str, Address]) -> Mapping[str, str]:
    """The URLs of the WebSocket listeners, by their names."""
    return _reached(plan, addresses, "websocket", "ws")


def _reached(plan: Plan, addresses: Mapping[str, Address], protocol: str, scheme: str) -> Mapping[str, str]:
    parts = {name: part for name, part in plan.config.listeners.items() if part.protocol == protocol}
    return {name: _url(part, addresses.get(name), scheme) for name, part in parts.items()}


def _url(part: ListenerConfig, address: Address | None, scheme: str) -> str:
    host, port = split_bind(getattr(part, "bind", ""))
    if address is not None:
        host, port = address.host, address.port
    secure = "s" if getattr(part, "tls", None) is not None else ""
    return f"{scheme}{secure}://{Address('localhost' if host in _ANYWHERE else host, port)}"


def documents(plan: Plan, addresses: Mapping[str, Address]) -> Mapping[str, Document]:
    """Every document by its path, made when it is asked for. `addresses` is filled as the listeners come to listen."""
    rest = lru_cache(maxsize=1)(lambda urls: compact(openapi(plan, urls)).encode())
    live = lru_cache(maxsize=1)(lambda urls: compact(asyncapi(plan, dict(urls))).encode())
    made = {
        "/openapi.json": Document(JSON, lambda: rest(servers(plan, addresses))),
        "/asyncapi.json": Document(JSON, lambda: live(tuple(sockets(plan, addresses).items()))),
    }
    files = plan.config.contracts.files
    # Sets put together are one set (protobuf's wire format: repeated fields of a message are merged).
    return {**made, **({"/contract.binpb": Document(PROTOBUF, lambda: b"".join(files))} if files else {})}

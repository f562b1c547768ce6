"""A line to try each route with, made from the route table: what `polygate run` says once it listens."""

from __future__ import annotations

import copy
import json
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from gateway.bind import Address
from gateway.binding import Binding, PlannedRoute
from gateway.codec import ABSENT
from gateway.message import Many
from gateway.pattern import pattern_of
from gateway.plan import Plan

_PREFERRED = ("rest", "websocket", "grpc")
_WIDTH = 14


def banner(plan: Plan, addresses: Mapping[str, Address]) -> str:
    """What listens where, which routes there are, and a line to try each."""
    lines = ["polygate listens:"]
    for name, listener in plan.config.listeners.items():
        where = str(addresses[name]) if name in addresses else ", ".join(listener.asks() or ())
        lines.append(f"  {name:<{_WIDTH}} {listener.kind:<10} {where}")
    if plan.routes:
        lines.append("routes, and a line to try each:")
    width = max((_WIDTH, *(len(route.name) for route in plan.routes)))
    lines.extend(f"  {route.name:<{width}} {attempt(plan, route, addresses)}" for route in plan.routes)
    return "\n".join(lines) + "\n"


def attempt(plan: Plan, route: PlannedRoute, addresses: Mapping[str, Address]) -> str:
    """A command that calls a route, over the wire that is easiest to try. It runs as it stands, in a POSIX shell."""
    places: dict[str, _Place] = {}
    for name, listener in plan.config.listeners.items():
        if name in addresses:
            places.setdefault(listener.protocol, _Place(_reachable(addresses[name]), getattr(listener, "tls", None) is not None))
    for protocol in _PREFERRED:
        for binding in route.bindings:
            if binding.protocol == protocol and protocol in places:
                return _COMMANDS[protocol](route, binding, places[protocol])
    calls = ", ".join(f"{binding.protocol} {binding.when}" for binding in route.bindings)
    return f"(answers {calls})"


def _reachable(address: Address) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104  compared, not bound
    return str(Address(host, address.port))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a listener is reached."""

    address: str
    tls: bool


def parted(binding: Binding, message: Mapping[str, Any]) -> tuple[str, list[tuple[str, str]], Any]:
    """A message as a request of a binding says it: the path, the query, and the body (ABSENT for none)."""
    left = copy.deepcopy(dict(message))
    path = pattern_of(binding.pattern).path(lambda name: _taken(left, name))
    if binding.rule.body == "*":
        return path, [], left
    body = left.pop(binding.rule.body, ABSENT)
    return path, list(_leaves(left)), body


def _taken(message: dict[str, Any], name: str) -> str | None:
    """What a dotted name has in a message, taken out of it."""
    first, _, rest = name.partition(".")
    if first not in message:
        return None
    if not rest:
        return _text(message.pop(first))
    inner = message[first]
    found = _taken(inner, rest) if isinstance(inner, dict) else None
    if inner == {}:
        del message[first]
    return found


def _leaves(message: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in message.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield from ((f"{above}{name}", _text(one)) for one in (value if isinstance(value, list) else [value]))


def _curl(route: PlannedRoute, binding: Binding, place: _Place) -> str:
    path, query, body = parted(binding, route.example)
    url = f"{'https' if place.tls else 'http'}://{place.address}{path}{f'?{urlencode(query)}' if query else ''}"
    options = ["-N"] if binding.many & Many.REPLIES else []
    if binding.rule.body and route.to.format not in {"json", "protobuf"}:
        options += ["-H", "content-type:text/plain", "-d", "hello"]
    elif body is not ABSENT:
        options += ["--json", shlex.quote(_compact(body))]
    # What curl does by itself need not be said, nor what leaves every method open.
    if binding.method not in {"POST" if options[-2:-1] in (["-d"], ["--json"]) else "GET", "*"}:
        options = ["-X", binding.method, *options]
    return " ".join(["curl", "-s", *options, shlex.quote(url)])


def _websockets(route: PlannedRoute, binding: Binding, place: _Place) -> str:
    """The library's own client. It leaves at the end of its input, so that must wait for the answer."""
    url = f"{'wss' if place.tls else 'ws'}://{place.address}{parted(binding, route.example)[0]}"
    said = f"(echo {shlex.quote(_compact(dict(route.example)))}; sleep 1) | " if route.example else ""
    return f"{said}{_installed('websockets')} {shlex.quote(url)}"


def _grpcurl(route: PlannedRoute, binding: Binding, place: _Place) -> str:
    body = f"-d {shlex.quote(_compact(dict(route.example)))} " if route.example else ""
    return f"grpcurl {'' if place.tls else '-plaintext '}{body}{place.address} {binding.when}"


_COMMANDS: Mapping[str, Callable[[PlannedRoute, Binding, _Place], str]] = {
    "rest": _curl,
    "websocket": _websockets,
    "grpc": _grpcurl,
}


def _installed(command: str) -> str:
    """A command of our own environment, as it can be typed here: by its name where that is found, else by its path."""
    own = Path(sys.executable).with_name(command)
    if shutil.which(command) or not own.exists():
        return command
    return shlex.quote(str(own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own))


def _text(value: object) -> str:
    return value if isinstance(value, str) else _compact(value)


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)

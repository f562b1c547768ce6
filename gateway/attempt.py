"""A line to try each route with, made from the route table: what `polygate run` says once it listens."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from gateway.binding import Binding, PlannedRoute
from gateway.message import Many
from gateway.pattern import pattern_of
from gateway.plan import Plan
from gateway.port import Address

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


def _path(binding: Binding, example: dict[str, Any]) -> str:
    """A path that a binding takes; what it uses of the example is taken out of it."""

    def value(name: str) -> str | None:
        return _text(example.pop(name)) if name in example else None

    return pattern_of(binding.pattern).path(value)


def _curl(route: PlannedRoute, binding: Binding, place: _Place) -> str:
    example = dict(route.example)
    url = f"{'https' if place.tls else 'http'}://{place.address}{_path(binding, example)}"
    options = ["-N"] if binding.many & Many.REPLIES else []
    if binding.method in {"GET", "DELETE"}:
        url += f"?{urlencode({name: _text(value) for name, value in example.items()})}" if example else ""
        options += ["-X", "DELETE"] if binding.method == "DELETE" else []
    else:
        options += ["-X", binding.method] if binding.method != "POST" else []
        if route.to.format in {"json", "protobuf"}:
            options += ["--json", shlex.quote(_compact(example))]
        else:
            options += ["-H", "content-type:text/plain", "-d", "hello"]
    return " ".join(["curl", "-s", *options, shlex.quote(url)])


def _websockets(route: PlannedRoute, binding: Binding, place: _Place) -> str:
    """The library's own client. It leaves at the end of its input, so that must wait for the answer."""
    url = f"{'wss' if place.tls else 'ws'}://{place.address}{_path(binding, dict(route.example))}"
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

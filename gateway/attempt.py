"""A line to try each route with, made from the route table: what `polygate run` says once it listens."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping

from gateway.binding import Binding, PlannedRoute
from gateway.message import Many
from gateway.plan import Plan
from gateway.port import Address
from gateway.route import segments_of

_PREFERRED = ("rest", "websocket", "grpc")
_WIDTH = 14


def banner(plan: Plan, addresses: Mapping[str, Address]) -> str:
    """What listens where, which routes there are, and a line to try each."""
    lines = ["polygate listens:"]
    for name, listener in plan.config.listeners.items():
        where = str(addresses[name]) if name in addresses else ", ".join(getattr(listener, "topics", ()))
        lines.append(f"  {name:<{_WIDTH}} {listener.kind:<10} {where}")
    lines.append("routes, and a line to try each:")
    lines.extend(f"  {route.name:<{_WIDTH}} {attempt(plan, route, addresses)}" for route in plan.routes)
    return "\n".join(lines) + "\n"


def attempt(plan: Plan, route: PlannedRoute, addresses: Mapping[str, Address]) -> str:
    """A command that calls a route, over the wire that is easiest to try."""
    by_protocol: dict[str, Address] = {}
    for name, listener in plan.config.listeners.items():
        if name in addresses:
            by_protocol.setdefault(listener.protocol, addresses[name])
    for protocol in _PREFERRED:
        for binding in route.bindings:
            if binding.protocol == protocol and protocol in by_protocol:
                return _command(route, binding, _reachable(by_protocol[protocol]))
    calls = ", ".join(f"{binding.protocol} {binding.when}" for binding in route.bindings)
    return f"(answers {calls})"


def _reachable(address: Address) -> str:
    host = "127.0.0.1" if address.host in {"0.0.0.0", "::"} else address.host  # noqa: S104  compared, not bound
    return str(Address(host, address.port))


def _command(route: PlannedRoute, binding: Binding, address: str) -> str:
    example = dict(route.example)
    if binding.protocol == "grpc":
        body = f"-d {shlex.quote(_compact(example))} " if example else ""
        return f"grpcurl -plaintext {body}{address} {binding.when}"
    path = []
    for kind, name in segments_of(binding.pattern):
        path.append(name if kind == "literal" else str(example.pop(name, name or "x")))
    url = f"{address}/{'/'.join(path)}"
    if binding.protocol == "websocket":
        body = f"echo {shlex.quote(_compact(dict(route.example)))} | " if route.example else ""
        return f"{body}websockets ws://{url}"
    options = ["-N"] if binding.many & Many.REPLIES else []
    if binding.method not in {"GET", "DELETE"}:
        options += ["-X", binding.method] if binding.method != "POST" else []
        options += ["--json", shlex.quote(_compact(example))]
    return " ".join(["curl", "-s", *options, f"http://{url}"])


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)

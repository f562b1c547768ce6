"""What expressions are about: a call and its message, by the names that a config uses for their parts."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from gateway.codec import Value
from gateway.exchange import Call
from gateway.message import Headers
from gateway.route import Facts

CALL = ("id", "protocol", "method", "path", "peer")
"""What `call` has where a call is being handled."""
MEMBERS: Mapping[str, Collection[str]] = {"call": CALL}


def split(target: str) -> tuple[str, str]:
    """Method and path of a target: "POST" and "/orders/7" over REST, "" and the path elsewhere."""
    method, _, path = target.rpartition(" ")
    return method, path


def query_of(pairs: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Query parameters by name; of one that is given twice the first."""
    return dict(reversed(pairs))


def headers_of(headers: Headers) -> dict[str, str]:
    """Headers by lower-case name; of one that is given twice all values, as one list (RFC 9110 5.3). None of our own."""
    return {name: headers.joined(name) for name, _ in headers if name[:1] != ":"}


def given(source: Call | Facts, uses: Collection[str]) -> dict[str, Value]:
    """Those of the names in `uses` that are known of a call from the start: params, query, headers."""
    values: dict[str, Value] = {}
    if "params" in uses:
        values["params"] = dict(source.params)
    if "query" in uses:
        values["query"] = query_of(source.query)
    if "headers" in uses:
        values["headers"] = headers_of(source.headers)
    return values


def subject(call: Call, uses: Collection[str]) -> dict[str, Value]:
    """Those of the names in `uses` that a call by itself gives: params, query, headers, principal, call."""
    values = given(call, uses)
    if "principal" in uses:
        values["principal"] = _principal(call)
    if "call" in uses:
        method, path = split(call.target)
        values["call"] = {"id": call.id, "protocol": call.protocol, "method": method, "path": path, "peer": call.peer}
    return values


def _principal(call: Call) -> Value:
    """Who calls; null where no policy has found that out."""
    if call.principal is None:
        return None
    return {"name": call.principal.name, "claims": dict(call.principal.claims)}

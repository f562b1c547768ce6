"""The router: pure, the same for every listener. Which route has a call, and with which path variables.

Specificity first: a literal beats `{name}`, which beats `**`. Not found and wrong method are told apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import unquote_to_bytes

from gateway.errors import Allowed, CallerError, GatewayError, Reason
from gateway.exchange import Handler
from gateway.message import Many, value

_NO_PARAMS: Mapping[str, str] = MappingProxyType({})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_LITERAL = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()+,;=:@]|%[0-9A-Fa-f]{2})+\Z")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class PatternError(ValueError):
    """A path pattern that cannot work, with the reason."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A route as one kind of listener serves it."""

    route: str
    handler: Handler
    many: Many = Many.NEITHER
    """Which sides may carry more than one message on this wire."""
    offers: tuple[str, ...] = ()
    """Media types that one message of a reply can be had in; () for any."""
    raw: bool = False
    """Replies are bytes of any media type (google.api.HttpBody), and so are their streams."""


@value
class Found:
    """What the router says to a call. A miss has a handler too: it raises `error`, so that misses are observed like the rest."""

    endpoint: Endpoint
    params: Mapping[str, str] = field(default_factory=lambda: _NO_PARAMS)
    error: GatewayError | None = None


Find = Callable[[str, str], Found]
"""find(protocol, target): never raises. Targets are "POST /orders/7" over REST, a path elsewhere."""


@dataclass(slots=True)
class _Node:
    literals: dict[str, _Node] = field(default_factory=dict)
    any: _Node | None = None
    ends: dict[str, tuple[Endpoint, tuple[str, ...]]] = field(default_factory=dict)
    rest: dict[str, tuple[Endpoint, tuple[str, ...]]] = field(default_factory=dict)


def segments_of(pattern: str) -> list[tuple[str, str]]:
    """A pattern's segments as (kind, name): ("literal", text), ("any", name), ("rest", name). Raises PatternError."""
    if not pattern.startswith("/"):
        raise PatternError(f"{pattern!r}: a path starts with /")
    if pattern == "/":
        return [("literal", "")]
    segments = [_segment(pattern, text) for text in pattern[1:].split("/")]
    if any(kind == "rest" for kind, _ in segments[:-1]):
        raise PatternError(f"{pattern!r}: ** must be last")
    names = [name for kind, name in segments if kind != "literal" and name]
    if len(set(names)) < len(names):
        raise PatternError(f"{pattern!r}: a variable stands in it twice")
    return segments


def _segment(pattern: str, text: str) -> tuple[str, str]:
    if text in {"*", "**"}:
        return ("rest" if text == "**" else "any", "")
    if text.startswith("{") and text.endswith("}"):
        name, _, rest = text[1:-1].partition("=")
        if not _NAME.match(name) or rest not in {"", "*", "**"}:
            raise PatternError(f"{pattern!r}: a variable is written {{name}}, {{name=*}} or {{name=**}}")
        return ("rest" if rest == "**" else "any", name)
    if not _LITERAL.match(text):
        raise PatternError(f"{pattern!r}: {'an empty segment' if not text else 'a character that a path cannot hold'}")
    return ("literal", decode(text))


def decode(segment: str) -> str:
    """One path segment, percent-decoded: never "+", always UTF-8. Raises CallerError(MALFORMED)."""
    if "%" not in segment:
        return segment
    if _BAD_ESCAPE.search(segment):
        raise CallerError(Reason.MALFORMED, "the path has a malformed %-escape")
    try:
        text = unquote_to_bytes(segment).decode()
    except UnicodeDecodeError as error:
        raise CallerError(Reason.MALFORMED, "the path is not UTF-8") from error
    if "\0" in text:
        raise CallerError(Reason.MALFORMED, "the path has a NUL in it")
    return text


class Table:
    """Every route of the gateway, by protocol. Built when the config is loaded; swapping it whole is a reload."""

    def __init__(self, refuse: Callable[[str, GatewayError], Endpoint]) -> None:
        """`refuse(protocol, error)` makes the endpoint that answers a miss."""
        self._roots: dict[str, _Node] = {}
        self.refuse = refuse

    def add(self, protocol: str, method: str, pattern: str, endpoint: Endpoint) -> str | None:
        """Add one. Returns the name of the route that has the same pattern and method already, and then adds nothing."""
        node = self._roots.setdefault(protocol, _Node())
        segments = segments_of(pattern)
        names = tuple(name for kind, name in segments if kind != "literal")
        for kind, name in segments:
            if kind == "literal":
                node = node.literals.setdefault(name, _Node())
            elif kind == "any":
                node.any = node.any or _Node()
                node = node.any
        slot = node.rest if segments[-1][0] == "rest" else node.ends
        if method in slot:
            return slot[method][0].route
        slot[method] = (endpoint, names)
        return None

    def find(self, protocol: str, target: str) -> Found:
        """See `Find`. A HEAD is answered by the route of GET unless it has its own."""
        method, _, path = target.rpartition(" ")
        try:
            raw = path[1:].split("/")
            segments = [decode(text) for text in raw] if "%" in path else raw
            # A dot segment, however it is written, is never data (RFC 3986 6.2.2.3), nor is an empty one.
            if path[:1] != "/" or (("." in segments or ".." in segments or "" in segments) and path != "/"):
                raise CallerError(Reason.NOT_FOUND, "no route has this path")
            hit, methods = self._walk(protocol, method, segments, raw)
        except GatewayError as error:
            return self._miss(protocol, error)
        if hit is None:
            return self._miss(protocol, self._why(protocol, methods))
        return hit

    def _walk(self, protocol: str, method: str, segments: list[str], raw: list[str]) -> tuple[Found | None, set[str]]:
        """Depth first, most specific first. A tree's node is met at one depth only, so this visits each at most once."""
        methods: set[str] = set()
        node = self._roots.get(protocol, _NOWHERE)
        at, count = 0, len(segments)
        values: tuple[str, ...] = ()
        rest = False
        # What is still to be tried when the way taken does not end in a route.
        others: list[tuple[_Node, int, tuple[str, ...], bool]] = []
        while True:
            if not rest and node.rest:
                others.append((node, at, values, True))
            if at < count and not rest:
                segment = segments[at]
                literal = node.literals.get(segment)
                at += 1
                if literal is not None:
                    if node.any is not None:
                        others.append((node.any, at, (*values, segment), False))
                    node = literal
                    continue
                if node.any is not None:
                    node, values = node.any, (*values, segment)
                    continue
            else:
                slot = node.rest if rest else node.ends
                chosen = slot.get(method) or (slot.get("GET") if method == "HEAD" else None)
                if chosen is not None:
                    # A variable over several segments keeps %2F as it came, so that it can be told from "/".
                    tail = ("/".join(_but_slashes(text) for text in raw[at:]),) if rest else ()
                    return _found(*chosen, values + tail), methods
                methods.update(slot)
            if not others:
                return None, methods
            node, at, values, rest = others.pop()

    @staticmethod
    def _why(protocol: str, methods: set[str]) -> GatewayError:
        if protocol == "grpc":
            return CallerError(Reason.NO_METHOD, "no route has this method")
        if methods:
            known = methods | ({"HEAD"} if "GET" in methods else set()) | {"OPTIONS"}
            return CallerError(
                Reason.WRONG_METHOD, "this path has routes for other methods", details=(Allowed(tuple(sorted(known))),)
            )
        return CallerError(Reason.NOT_FOUND, "no route has this path")

    def _miss(self, protocol: str, error: GatewayError) -> Found:
        return Found(self.refuse(protocol, error), _NO_PARAMS, error)


_NOWHERE = _Node()


def _found(endpoint: Endpoint, names: tuple[str, ...], values: tuple[str, ...]) -> Found:
    if not names:
        return Found(endpoint)
    params = dict(zip(names, values, strict=True))
    params.pop("", None)
    return Found(endpoint, params)


def _but_slashes(segment: str) -> str:
    """Decoded all but `%2F`, which stays in the case it came in."""
    return "%".join(decode(part) for part in re.split(r"%(?=2[Ff])", segment)) if "%" in segment else segment

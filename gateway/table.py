"""The router: pure, the same for every listener. Which route has a call, and with which path variables.

Specificity first, from the left: a literal beats `*`, which beats `**`. Not found and wrong method are told apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.errors import Allowed, CallerError, GatewayError, Reason
from gateway.message import NO_HEADERS, Headers
from gateway.pattern import ROOT, Pattern, decode, decode_but_slashes, pattern_of
from gateway.route import NO_PARAMS, Endpoint, Facts, Found, Query

_METHODS_BY_NAME = frozenset({"grpc", "grpc_web", "connect"})
"""Protocols whose calls are methods of a service: what is not there is a method, not a path."""
_NO_DATA = frozenset({"", ".", ".."})
"""A dot segment, however it is written, is never data (RFC 3986 6.2.2.3), nor is an empty one."""

_ANY_METHOD = "*"
"""Of a custom pattern that leaves the method unspecified (google/api/http.proto)."""


@dataclass(slots=True)
class _Node:
    """The patterns that begin alike. A node is met at one depth only, so a variable is known by the places of its segments."""

    literals: dict[str, _Node] = field(default_factory=dict)
    any: _Node | None = None
    rest: _Node | None = None
    """Where patterns end that go on with `**`."""
    verbs: dict[str, _Node] = field(default_factory=dict)
    """Where patterns end that end here but for a verb."""
    ends: dict[str, list[_End]] = field(default_factory=dict)
    """The routes whose pattern ends here, by method, in the order in which they are asked."""
    takers: dict[str, tuple[_End, ...]] = field(default_factory=dict)
    """The same for a call: HEAD is one of GET's too, and "*" is every method that is not named."""

    def read(self, path: _Path) -> _Node | None:
        """Where a path ends whose last colon may begin a verb: it does if any method of this very pattern has that verb. None
        where the verb would leave nothing of the last segment.
        """
        with_verb = self.verbs.get(path.verb)
        if with_verb is None:
            return self
        return with_verb if path.sound else None

    def both(self) -> Sequence[_Node]:
        """Where a path ends that ends here: `**` is no segment too."""
        return (self,) if self.rest is None else (self, self.rest)


@dataclass(frozen=True, slots=True)
class _End:
    endpoint: Endpoint
    variables: tuple[tuple[str, int, int | None, bool], ...]
    """Name, first segment, the one after the last, whether it is a single one."""
    verb: str


@dataclass(slots=True)
class _Path:
    """A path taken apart; where its last segment may end in a verb, so is that."""

    raw: list[str]
    segments: list[str]
    verb: str = ""
    short: str = ""
    """Of the raw segment, what stands before the verb."""
    sound: bool = True
    """Whether that is data."""


class Table:
    """Every route of the gateway, by protocol. Built when the config is loaded; swapping it whole is a reload."""

    def __init__(self, refuse: Callable[[str, GatewayError], Endpoint]) -> None:
        """`refuse(protocol, error)` makes the endpoint that answers a miss."""
        self._roots: dict[str, _Node] = {}
        self._exact: dict[str, dict[str, Found]] = {}
        """The calls of routes with nothing but literals and no condition, which nothing can be more specific than."""
        self._verbs: set[str] = set()
        self.refuse = refuse

    def add(self, protocol: str, method: str, pattern: str, endpoint: Endpoint) -> str | None:
        """Add one. Returns the name of the route that has the same pattern, method and condition already, and then adds nothing.

        Of several conditions the first one added that holds decides; a route without one is asked after them all.
        """
        parsed = pattern_of(pattern)
        node = self._end(protocol, parsed)
        ends = node.ends.setdefault(method, [])
        for other in ends:
            if other.endpoint.condition == endpoint.condition:
                return other.endpoint.route
        variables = tuple((one.name, one.start, one.stop, one.single) for one in parsed.variables)
        last = bool(ends) and ends[-1].endpoint.condition is None
        ends.insert(len(ends) - last, _End(endpoint, variables, parsed.verb))
        node.takers = _takers(node.ends)
        exact = self._exact.setdefault(protocol, {})
        target = f"{method} {pattern}".lstrip()
        if len(ends) == 1 and endpoint.condition is None and _is_plain(parsed, pattern):
            exact[target] = Found(endpoint)
        else:
            exact.pop(target, None)
        return None

    def _end(self, protocol: str, pattern: Pattern) -> _Node:
        node = self._roots.setdefault(protocol, _Node())
        for kind, text in pattern.segments if pattern != ROOT else ():
            if kind == "literal":
                node = node.literals.setdefault(text, _Node())
            elif kind == "any":
                node.any = node = node.any or _Node()
            else:
                node.rest = node = node.rest or _Node()
        if pattern.verb:
            self._verbs.add(pattern.verb)
            node = node.verbs.setdefault(pattern.verb, _Node())
        return node

    def find(self, protocol: str, target: str, headers: Headers = NO_HEADERS, query: Query = ()) -> Found:
        """See `Find`. A HEAD is answered by the route of GET unless it has its own."""
        exact = self._exact.get(protocol)
        if exact is not None and (found := exact.get(target)) is not None:
            return found
        method, _, text = target.rpartition(" ")
        try:
            path = self._path(text)
            root = self._roots.get(protocol, _NOWHERE)
            for node in _leaves(root, path):
                takers = node.takers
                for end in takers.get(method) or takers.get(_ANY_METHOD, ()):
                    found = _found(end, path)
                    condition = end.endpoint.condition
                    if condition is None or condition(Facts(protocol, target, found.params, headers, query)):
                        return found
            raise _why(protocol, method, list(_leaves(root, path)))
        except GatewayError as error:
            return Found(self.refuse(protocol, error), NO_PARAMS, error)

    def _path(self, text: str) -> _Path:
        if text == "/":
            return _Path([], [])
        raw = text[1:].split("/")
        segments = [decode(part) for part in raw] if "%" in text else raw
        if text[:1] != "/" or "" in segments or "." in segments or ".." in segments:
            raise CallerError(Reason.NOT_FOUND, "no route has this path")
        if self._verbs and ":" in raw[-1]:
            short, _, verb = raw[-1].rpartition(":")
            if decode(verb) in self._verbs:
                return _Path(raw, segments, decode(verb), short, decode(short) not in _NO_DATA)
        return _Path(raw, segments)


_NOWHERE = _Node()
_END = -1
"""In the place of a segment's number: the path ends here, whatever is left of it."""


def _leaves(root: _Node, path: _Path) -> Iterator[_Node]:
    """Where the path may end, most specific first. Depth first, and no node twice."""
    segments, count = path.segments, len(path.segments)
    # A last segment that may be read with a verb is not just a step.
    steps = count - 1 if path.verb else count
    node, at = root, 0
    # What is still to be tried when the way taken does not end in a route.
    others: list[tuple[_Node, int]] = []
    while True:
        if 0 <= at < steps:
            segment = segments[at]
            at += 1
            if node.rest is not None and (end := node.rest.read(path)) is not None:
                others.append((end, _END))
            literal = node.literals.get(segment)
            if literal is not None:
                if node.any is not None:
                    others.append((node.any, at))
                node = literal
                continue
            if node.any is not None:
                node = node.any
                continue
        elif at == _END:
            yield node
        else:
            yield from _last(node, path) if path.verb else node.both()
        if not others:
            return
        node, at = others.pop()


def _last(node: _Node, path: _Path) -> Iterator[_Node]:
    """Where a path may end after a segment that may end in a verb: for each pattern it does, or it does not, never both."""
    short, verb = decode(path.short), path.verb
    base = node.literals.get(short) if path.sound else None
    whole = node.literals.get(path.segments[-1])
    for end in (base, base and base.rest):
        if end is not None and verb in end.verbs:
            yield end.verbs[verb]
    for end in whole.both() if whole is not None else ():
        if verb not in end.verbs:
            yield end
    for end in (node.any, node.any and node.any.rest, node.rest):
        if end is not None and (read := end.read(path)) is not None:
            yield read


def _takers(ends: Mapping[str, Sequence[_End]]) -> dict[str, tuple[_End, ...]]:
    """Who may take the calls that end here, by method, in the order in which they are asked."""
    whatever = ends.get(_ANY_METHOD, ())
    takers = {method: (*own, *whatever) for method, own in ends.items() if method != _ANY_METHOD}
    if "GET" in ends:
        takers["HEAD"] = (*ends.get("HEAD", ()), *takers["GET"])
    return {**takers, _ANY_METHOD: tuple(whatever)} if whatever else takers


def _found(end: _End, path: _Path) -> Found:
    if not end.variables:
        return Found(end.endpoint)
    raw, segments = path.raw, path.segments
    if end.verb:
        raw, segments = [*raw[:-1], path.short], [*segments[:-1], decode(path.short)]
    params: dict[str, str] = {
        name: segments[start] if single else "/".join([decode_but_slashes(text) for text in raw[start:stop]])
        for name, start, stop, single in end.variables
    }
    return Found(end.endpoint, params)


def _is_plain(pattern: Pattern, text: str) -> bool:
    """Whether a pattern is the one path that it takes, letter by letter."""
    literal = all(segment.kind == "literal" and segment.text not in {".", ".."} for segment in pattern.segments)
    return literal and not pattern.variables and "%" not in text


def _why(protocol: str, method: str, tried: Sequence[_Node]) -> CallerError:
    if protocol in _METHODS_BY_NAME:
        return CallerError(Reason.NO_METHOD, "no route has this method")
    methods = {known for node in tried for known in node.takers}
    # Where routes have the method too and their conditions do not hold, it is not the method that is wrong.
    if methods and method not in methods and _ANY_METHOD not in methods:
        allowed = Allowed(tuple(sorted(methods | {"OPTIONS"})))
        return CallerError(Reason.WRONG_METHOD, "this path has routes for other methods", details=(allowed,))
    return CallerError(Reason.NOT_FOUND, "no route has this path")

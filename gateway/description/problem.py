"""What a caller may be told in place of a reply: the problem object, and which reasons a route can give for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from gateway.binding import Binding, PlannedRoute
from gateway.description.key import keys
from gateway.errors import Outcome, Reason
from gateway.message import PROBLEM
from gateway.schema import Schema, Schemas
from gateway.status import TABLE, Code

_BACKEND = tuple(reason for reason in Reason if reason.value.startswith("backend_"))
_LOG = (
    Reason.UNREACHABLE,
    Reason.UNKNOWN_OUTCOME,
    Reason.TIMED_OUT,
    Reason.REFUSED,
    Reason.OVERLOADED,
    Reason.TOO_LARGE,
    Reason.BAD_ANSWER,
)
OF_VERB: Mapping[str, tuple[Reason, ...]] = {
    "publish": _LOG,
    # The answering side's reason is passed on, whichever it is.
    "ask": (*_LOG, *_BACKEND, Reason.MALFORMED, Reason.INVALID, Reason.UNSUPPORTED, Reason.RATE_LIMITED, Reason.BUG),
    "results": (*_LOG, *_BACKEND, Reason.NOT_FOUND, Reason.MALFORMED, Reason.INVALID, Reason.UNSUPPORTED, Reason.RATE_LIMITED),
    "tail": (*_LOG, Reason.INVALID, Reason.MALFORMED),
    "call": (Reason.UNREACHABLE, Reason.UNKNOWN_OUTCOME, Reason.TIMED_OUT, Reason.REFUSED, Reason.BAD_ANSWER, *_BACKEND),
}
"""What a target's verb may end in."""
_OF_HTTP = (
    Reason.MALFORMED,
    Reason.UNSUPPORTED,
    Reason.UNSUPPORTED_ENCODING,
    Reason.TOO_LARGE,
    Reason.SLOW_REQUEST,
    Reason.URI_TOO_LONG,
    Reason.HEADERS_TOO_LARGE,
    Reason.OVERLOADED,
    Reason.BUG,
)
"""What a REST listener itself may refuse any call with, and what any exchange may end in."""


def schema() -> Schema:
    """The problem object (RFC 9457)."""
    error: Schema = {
        "type": "object",
        "properties": {
            "pointer": {"type": "string", "description": 'Where: an RFC 6901 pointer, "" for the whole message.'},
            "detail": {"type": "string"},
        },
        "required": ["pointer", "detail"],
    }
    properties: Schema = {
        "type": {"type": "string", "format": "uri", "description": "One for each reason."},
        "title": {"type": "string"},
        "status": {"type": "integer", "description": "That of the response."},
        "detail": {"type": "string", "description": "For whoever made the call."},
        "reason": {"type": "string", "enum": [reason.value for reason in Reason]},
        "code": {"type": "string", "enum": [code.name for code in Code], "description": "The same in gRPC."},
        "retryable": {"type": "boolean", "description": "Whether the same call may succeed later."},
        "outcome": {
            "type": "string",
            "enum": [outcome.value for outcome in Outcome],
            "description": "failed: nothing was done. unknown: it may have been.",
        },
        "id": {"type": "string", "description": "That of the exchange, as in x-request-id and in the logs."},
    }
    errors = {"type": "array", "items": error, "description": "The fields that are wrong."}
    return {
        "type": "object",
        "description": "Why a call was not answered with success (RFC 9457).",
        "properties": {**properties, "errors": errors},
        "required": list(properties),
    }


def reference(schemas: Schemas) -> Schema:
    """A reference to the problem object."""
    return schemas.refer("Problem", "", schema)


def reasons(route: PlannedRoute, binding: Binding, *, optional: bool) -> Iterator[Reason]:
    """Every reason that a route can give to a REST call. `optional`: some path of its pattern is no call of the route."""
    yield from _OF_HTTP
    yield from OF_VERB[route.to.verb]
    for policy in binding.policies:
        yield from policy.refuses
    if keys(route) is not None:
        yield Reason.INVALID  # a key that was used for another message
    yield Reason.UNACCEPTABLE
    if optional:
        yield Reason.NOT_FOUND
    if route.contract is not None and not route.contract.request.binary:
        yield Reason.INVALID


def responses(found: Iterable[Reason], components: dict[str, Schema], schemas: Schemas) -> dict[str, Schema]:
    """OpenAPI's responses of some reasons, by status; each combination is told once, in `components`."""
    by_status: dict[int, dict[Reason, None]] = defaultdict(dict)
    for reason in found:
        by_status[TABLE[reason].http][reason] = None
    told: dict[str, Schema] = {}
    for status in sorted(by_status):
        own = sorted(by_status[status], key=list(Reason).index)
        name = ".".join(reason.value for reason in own)
        components.setdefault(name, _response(status, own, schemas))
        told[str(status)] = {"$ref": f"#/components/responses/{name}"}
    return told


_SAID: Mapping[int, Schema] = {
    401: {"www-authenticate": {"schema": {"type": "string"}}},
    429: {"retry-after": {"description": "Seconds until another try makes sense.", "schema": {"type": "integer"}}},
    503: {"retry-after": {"description": "Seconds until another try makes sense.", "schema": {"type": "integer"}}},
}


def _response(status: int, found: Iterable[Reason], schemas: Schemas) -> Schema:
    lines = [f"`{reason.value}`: {TABLE[reason].title}" for reason in found]
    return {
        "description": "\n".join(f"- {line}" for line in lines) if len(lines) > 1 else lines[0],
        "headers": {"x-request-id": {"$ref": "#/components/headers/x-request-id"}, **_SAID.get(status, {})},
        "content": {PROBLEM: {"schema": reference(schemas)}},
    }

"""Idempotency keys: how callers write them (draft-ietf-httpapi-idempotency-key-header), and what a route says of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from hashlib import sha256

from pydantic import Field

from gateway.errors import CallerError, Reason
from gateway.exchange import Call
from gateway.message import Headers, Message
from gateway.part import Part
from gateway.target import Target
from gateway.template import Template
from gateway.topic.log import Post

HEADER = "idempotency-key"
MAX_KEY = 255

# A string of RFC 8941 3.3.3, with parameters that say nothing here (3.1.2); or, as most callers write it, the bare key.
_PARAMETER = r'; *[a-z*][a-z0-9_.*-]*(?:=(?:"(?:[^"\\]|\\["\\])*"|[A-Za-z0-9*?:+/=._-]+))?'
_STRING = re.compile(rf'"((?:[ !#-\[\]-~]|\\["\\])*)"(?:{_PARAMETER})*\Z')
_BARE = re.compile(r"[!#-+\--:<-\[\]-~]+\Z")
_ESCAPED = re.compile(r"\\(.)")


class Idempotency(Part):
    """What becomes of calls with one Idempotency-Key: inside the window one record is written, and all get its receipt or, where
    it is a question, the reply to it.
    """

    window: float = Field(default=86_400.0, ge=1, le=366 * 86_400)
    """For how many seconds a key is known."""
    required: bool = False
    """Refuse calls without a key (400)."""
    key: str | None = Field(default=None, min_length=1, examples=["{order}"])
    """The key of a message whose caller gives none: `{name}` is a path variable or a top-level field of it."""
    settle: float = Field(default=60.0, ge=1, le=86_400)
    """Seconds for which a key is held whose record may have been written, and is not found. After them it can be used again."""


def parsed(text: str) -> str:
    """The key that a header holds. CallerError(MALFORMED) where it holds none."""
    text = text.strip(" ")
    if (string := _STRING.match(text)) is not None:
        key = _ESCAPED.sub(r"\1", string[1])
    elif _BARE.match(text):
        key = text
    else:
        raise CallerError(Reason.MALFORMED, 'Idempotency-Key is a string in double quotes, as in "8e03978e-40d5"')
    if not 0 < len(key) <= MAX_KEY:
        raise CallerError(Reason.MALFORMED, f"an Idempotency-Key has 1 to {MAX_KEY} characters")
    return key


def given(headers: Headers) -> str | None:
    """The key among headers; None where there is none. CallerError(MALFORMED) for one that is malformed, or several."""
    found = headers.all(HEADER)
    if not found:
        return None
    if len(found) > 1:
        raise CallerError(Reason.MALFORMED, "there is more than one Idempotency-Key")
    return parsed(found[0])


Keyed = Callable[[Call, Message], str | None]
"""The key of one message of a call, told apart from those of other callers; None where it has none."""


def keyed(target: Target, spec: Idempotency) -> Keyed:
    """Where the messages of a route have their keys: in their own headers; in the call's, each after the first with its number in
    the call; or where the route says. A call that is made of a record has that one's place.
    """
    template = None if spec.key is None else Template(spec.key)

    def key(call: Call, message: Message) -> str | None:
        found = given(message.headers)
        if found is None and (found := given(call.headers)) is not None and call.number > 1:
            # A message that comes again may be the first of its call now, whose headers are then its own.
            found = f"{found}\0{call.number}"
        if found is None and template is not None:
            found = template.render(call.params, lambda: target.fields(message.body))
        if found is None and call.record:
            found = call.record
        if found is None:
            if spec.required:
                raise CallerError(Reason.MALFORMED, "this call needs an Idempotency-Key")
            return None
        # One caller must not meet what another has written, though both count from 1.
        who = "" if call.principal is None else call.principal.name
        return sha256(f"{target.route}\0\0{who}\0\0{found}".encode()).hexdigest()

    return key


def fingerprint(posts: Sequence[Post]) -> str:
    """What a key was used for: the same for the same topics, keys and bodies only."""
    digest = sha256()
    for post in posts:
        for part in (post.topic.encode(), b"%d" % (-1 if post.partition is None else post.partition), post.message.body):
            digest.update(b"%d:%b" % (len(part), part))
        key = post.message.key
        digest.update(b"-" if key is None else b"%d:%b" % (len(key), key))
    return digest.hexdigest()[:32]

"""The translations that routes are compiled to: from one format to another, and from an HTTP request to one message."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import replace

from gateway.codec import ABSENT, NOTHING_GIVEN, Bind, Format, Given, JsonOptions, Pairing, Rule, Type, Value
from gateway.errors import CallerError, FieldError, Reason
from gateway.message import JSON

Transcode = Callable[[bytes, Given], bytes]
"""One compiled translation: a body, and what path and query add to it."""


def transcode(source: Format, target: Format, kind: Type | None, rule: Rule | None = None) -> Transcode:
    """The function from one format to another for one type. With a rule, path and query are made part of the message.

    With equal formats and nothing to merge the bytes that came in go out, where they already say what the type's canonical
    form says; so a record is the same whatever wire it came by.
    """
    if source.opaque or target.opaque:
        return lambda body, _given: body
    convert = _converter(source, target, kind)
    if rule is None:
        return lambda body, _given: convert(body)
    if source.pairs is not None and kind is not None:
        return _naming(source.pairs, target, kind, rule)
    return _merging(source, target, kind, rule, convert)


def _converter(source: Format, target: Format, kind: Type | None) -> Callable[[bytes], bytes]:
    """A whole message, and nothing but it."""
    if kind is not None and source.content_types[0] == JSON and target.typed:
        return kind.pack_json
    if kind is not None and source.typed and target.content_types[0] == JSON:
        return kind.unpack_json
    read = source.codec(kind if source.typed or source.pairs else None).decode
    if source is target and kind is not None and kind.binary and source.content_types[0] == JSON:
        return _held(read, kind)
    # What a typed source has read is held to its type already.
    checked = kind is None or source.typed or source.pairs is not None
    if source is not target:
        write = target.codec(kind).encode if checked else _writer(target, kind)
        return lambda body: write(read(body))
    encode, check = target.codec(kind).encode, None if kind is None or checked else kind.check

    def through(body: bytes) -> bytes:
        value = read(body)
        if check is None:
            return body
        canonical = check(value)
        return body if canonical == value else encode(canonical)

    return through


def _held(read: Callable[[bytes], Value], kind: Type) -> Callable[[bytes], bytes]:
    """JSON that goes out as it came in, held to its type by the shortest way: through its binary form."""
    pack, show = kind.pack_json, kind.unpack_json

    def held(body: bytes) -> bytes:
        text = show(pack(body))
        return body if text == body or read(text) == read(body) else text

    return held


def _writer(target: Format, kind: Type | None) -> Callable[[Value], bytes]:
    """How a value is written, held to its type. A typed target checks while it encodes."""
    encode = target.codec(kind).encode
    if kind is None or target.typed:
        return encode
    if kind.binary and target.content_types[0] == JSON:
        pack, show = kind.pack, kind.unpack_json
        return lambda value: show(pack(value))
    check = kind.check
    return lambda value: encode(check(value))


def _merging(source: Format, target: Format, kind: Type | None, rule: Rule, convert: Callable[[bytes], bytes]) -> Transcode:
    """Body, path and query as one message."""
    # Without the route's options: a default that is written out would be a field that the caller never named.
    read = source.codec(kind.part.under(JsonOptions()) if source.typed and kind is not None else None).decode
    write = _writer(target, kind)
    bind = kind.bind(rule) if kind is not None else untyped(rule)
    whole = rule.body == "*"

    def merged(body: bytes, given: Given) -> bytes:
        if body and not rule.body:
            raise CallerError(Reason.MALFORMED, "this call has no body")
        # No bytes are a message too where a type says what that is: one that has nothing but defaults.
        if whole and (not given.params if kind is None else body and given is NOTHING_GIVEN):
            return convert(body)
        return write(bind(read(body) if body else ABSENT, given))

    return merged


def apart(source: Format, target: Format, kind: Type | None, rule: Rule) -> Transcode:
    """The body alone, in JSON: path and query stay where they are. An HTTP request without one says null."""
    convert = _converter(source, target, kind)

    def alone(body: bytes, _given: Given) -> bytes:
        if body and not rule.body:
            raise CallerError(Reason.MALFORMED, "this call has no body")
        return convert(body) if body or not rule.http else b"null"

    return alone


def _naming(read: Pairing, target: Format, kind: Type, rule: Rule) -> Transcode:
    """Names and texts in the place of a body, with path and query as one message: as if the query said it all."""
    write = _writer(target, kind)
    bind = kind.bind(replace(rule, body="", patch=False))
    prefix = f"{rule.body}." if rule.body != "*" else ""

    def named(body: bytes, given: Given) -> bytes:
        if body and not rule.body:
            raise CallerError(Reason.MALFORMED, "this call has no body")
        pairs = tuple((prefix + name, text) for name, text in read(body, kind)) if body else ()
        return write(bind(ABSENT, Given(given.params, pairs if rule.body == "*" else (*given.query, *pairs))))

    return named


def untyped(rule: Rule) -> Bind:
    """How path and query become fields of a JSON object where no type says what they are: as text."""

    def bind(value: Value, given: Given) -> Value:
        fields = dict(given.params)
        for name, text in given.query if rule.body != "*" else ():
            if name in fields:
                raise CallerError(Reason.MALFORMED, f"{name} is given twice")
            fields[name] = text
        if value is ABSENT:
            return fields
        return merge(value if rule.body == "*" else {rule.body: value}, fields)

    return bind


def upload(target: Format, kind: Type, rule: Rule) -> Callable[[str], Transcode]:
    """The translation of a body of any media type, for a rule whose body is a google.api.HttpBody: by its content type."""
    encode = target.codec(kind).encode
    bind = kind.bind(rule)

    def of(content_type: str) -> Transcode:
        def uploaded(body: bytes, given: Given) -> bytes:
            # Nothing, and no word of what it is: there is no body.
            said = {"contentType": content_type, "data": b64encode(body).decode()} if body or content_type else ABSENT
            return encode(bind(said, given))

        return uploaded

    return of


def merge(value: Value, fields: Mapping[str, str]) -> Value:
    """A JSON object with path variables added, so that a message is the same whatever the wire; a path variable is immutable."""
    if not isinstance(value, dict):
        raise CallerError(Reason.MALFORMED, "the body must be a JSON object")
    for name, field in fields.items():
        if name in value and value[name] != field and str(value[name]) != field:
            raise CallerError(
                Reason.MALFORMED,
                f"the body says otherwise than the path for {name}",
                details=(FieldError(f"/{name}", "is set by the path"),),
            )
    # Twice: they stand first, as in the path, and what they say is what counts.
    return {**fields, **value, **fields}

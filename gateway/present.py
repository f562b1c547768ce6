"""How each side of a route reads the other: the translation of one route for one protocol, compiled when loading."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache

from gateway.codec import MESSAGE, Contract, Format, Rule, Type
from gateway.errors import CallerError
from gateway.framing import NDJSON, SSE
from gateway.message import JSON, Message, Notice, shared
from gateway.target import TargetConfig
from gateway.topic.event import EVENT, RECEIPT, mapped, named, plain
from gateway.topic.tail import TailTo
from gateway.transcode import Transcode, apart, transcode, upload
from gateway.translate import Present, Translate, downloading, picking, presenting

REMEMBERED_BYTES = 16 << 10
_RPC = frozenset({"grpc", "grpc_web", "connect"})


def _callers(formats: Mapping[str, Format], to: TargetConfig, contract: Contract | None) -> list[Format]:
    """The formats that a caller may use: JSON always, names and texts, what needs a type where there is one, and the target's."""
    wanted = _general(formats, contract)
    own = formats[to.format]
    return wanted if own in wanted else [*wanted, own]


def _general(formats: Mapping[str, Format], contract: Contract | None) -> list[Format]:
    binary = contract is not None and contract.request.binary
    # A type without columns (google.protobuf.Empty) cannot be had from names and texts.
    named = contract is None or contract.request.columns
    return [formats["json"], *(form for form in formats.values() if (form.pairs and named) or (form.typed and binary))]


def _shown(form: Format, to: TargetConfig, contract: Contract | None) -> bool:
    """Whether replies can be had in a format. A receipt is JSON or, where the contract's reply is one, typed; who sends a form
    is answered in JSON, unless forms are the target's own way.
    """
    if form.pairs and form.name != to.format:
        return False
    if to.verb != "publish":
        return True
    return form.name == "json" or (form.typed and contract is not None and contract.reply.name == RECEIPT)


def offers(formats: Mapping[str, Format], to: TargetConfig, contract: Contract | None, rule: Rule = MESSAGE) -> tuple[str, ...]:
    """The media types that one message of a reply can be had in; () for any."""
    if (formats[to.format].opaque and to.verb != "publish") or raw(to, contract, rule):
        return ()
    if _is_part(to, contract, rule):
        return (JSON,)
    return tuple(name for form in _callers(formats, to, contract) if _shown(form, to, contract) for name in _names(form))


def _names(form: Format) -> tuple[str, ...]:
    """What replies in a format are called: by all the names of one that has several for the same bytes."""
    return form.content_types if form.typed else form.content_types[:1]


def _is_part(to: TargetConfig, contract: Contract | None, rule: Rule) -> bool:
    """Whether a response is something else than the reply."""
    return contract is not None and rule.http and to.verb == "call" and (bool(rule.response_body) or contract.reply.raw(""))


def raw(to: TargetConfig, contract: Contract | None, rule: Rule) -> bool:
    """Whether a response is a google.api.HttpBody: bytes of any media type."""
    return contract is not None and _is_part(to, contract, rule) and contract.reply.raw(rule.response_body)


def uploads(formats: Mapping[str, Format], to: TargetConfig, contract: Contract | None, rule: Rule) -> bool:
    """Whether a request is bytes of any media type: a google.api.HttpBody, or what is never opened."""
    if to.verb != "call" or not rule.http:
        return False
    return formats[to.format].opaque or (contract is not None and bool(rule.body) and contract.request.raw(rule.body))


def translation(
    formats: Mapping[str, Format], to: TargetConfig, contract: Contract | None, protocol: str, rule: Rule | None
) -> Translate:
    """Both directions between a caller of `protocol` and the target. `rule`: how its request stands for a message; None where
    that has been seen to.
    """
    target = formats[to.format]
    asked = formats["json"] if to.own else target
    kind = contract.request if contract is not None else None
    http = rule is not None and rule.http
    requests: dict[str, Transcode] = {}
    replies: dict[str, Present] = {}
    otherwise: Callable[[str], Transcode] | None = None
    if asked.opaque:
        otherwise = _unopened
    elif rule is not None and http and kind is not None and rule.body and kind.raw(rule.body):
        otherwise = upload(asked, kind, rule)
    for form in _callers(formats, to, contract):
        # What is a part of a message is written in JSON.
        if otherwise is None and (form.name == "json" or form.pairs or rule is None or rule.body in {"*", ""}):
            requests.update(dict.fromkeys(form.content_types, transcode(form, asked, kind, rule)))
        if _shown(form, to, contract):
            replies.update({name: _reply(formats, form, to, contract, protocol, name) for name in _names(form)})
    if otherwise is None and rule is not None and http and not rule.body:
        otherwise = _whatever(requests[JSON])
    if contract is not None and rule is not None and _is_part(to, contract, rule):
        replies = _responses(formats, target, contract.reply, rule)
    if isinstance(to, TailTo):
        # An event stream carries the cursor beside the body, so it needs no envelope, but it is text.
        replies[SSE] = replies[JSON] if target.opaque else _bare(formats, formats["json"], to, contract)
        replies[NDJSON] = replies[JSON]
    opaque = target.opaque and to.verb == "call"
    told = notices(formats, contract, protocol) if isinstance(to, TailTo) else {}
    content_type = asked.content_types[0]
    return Translate(requests, replies, content_type, query=http, otherwise=otherwise, opaque=opaque, notices=told)


def _whatever(translated: Transcode) -> Callable[[str], Transcode]:
    """Where there is no body it does not matter what one says to be."""
    return lambda _content_type: translated


def _unopened(_content_type: str) -> Transcode:
    return lambda body, _given: body


def _responses(formats: Mapping[str, Format], target: Format, kind: Type, rule: Rule) -> dict[str, Present]:
    """Replies of which a response is one field, or that are bytes of any media type."""
    read = target.codec(kind).decode
    pick = kind.pick(rule.response_body) if rule.response_body else None
    if kind.raw(rule.response_body):
        return {JSON: downloading(read if pick is None else lambda body: pick(read(body)))}
    return {} if pick is None else {JSON: picking(read, pick, formats["json"].codec(None).encode)}


def opening(
    formats: Mapping[str, Format], contract: Contract | None, rule: Rule, *, merging: bool, protocol: str = ""
) -> Translate:
    """Both directions between a caller and what opens its messages, where they are JSON. `merging`: path and query are made
    part of the message; else they stay where they are, for there is an expression to fetch them.
    """
    json = formats["json"]
    requests: dict[str, Transcode] = {}
    replies: dict[str, Present] = {}
    kinds = (contract.request, contract.reply) if contract is not None else (None, None)
    for form in _general(formats, contract):
        translated = transcode if merging else apart
        requests.update(dict.fromkeys(form.content_types, translated(form, json, kinds[0], rule)))
        if form.pairs:
            continue
        shown = transcode(json, form, kinds[1])
        replies.update({name: presenting(shown, name) for name in _names(form)})
    replies[SSE] = replies[NDJSON] = replies[JSON]
    otherwise = _whatever(requests[JSON]) if rule.http and not rule.body else None
    told = notices(formats, contract, protocol)
    return Translate(requests, replies, JSON, query=rule.http, otherwise=otherwise, notices=told)


def opened(formats: Mapping[str, Format], to: TargetConfig, contract: Contract | None) -> Translate:
    """Both directions between what opens messages and the target. Notices go through to the caller's side as they are."""
    return replace(translation(formats, to, contract, "", None), shown=JSON, notices={})


def notices(formats: Mapping[str, Format], contract: Contract | None, protocol: str) -> Mapping[str, Present]:
    """What the gateway says amid events, for each media type of them: {"cursor": ..., "gap": {...}}, which is what an Event with
    a gap is in JSON too. In an event stream it has a name of its own, and its data is the object alone.
    """
    json = formats["json"]
    plain: Present = lambda notice: _noted(notice, JSON, named(notice))  # noqa: E731
    told = {JSON: plain, NDJSON: plain, SSE: lambda notice: _noted(notice, JSON, notice.body)}
    if contract is None or contract.reply.name != EVENT:
        return told

    def mapping(form: Format, name: str) -> Present:
        encode, read, check = form.codec(contract.reply).encode, json.codec(None).decode, contract.reply.check
        return lambda notice: _noted(notice, name, encode(check(read(named(notice)))))

    return told | {
        name: mapping(form, name)
        for form in formats.values()
        if form.typed or (form is json and protocol in _RPC)
        for name in _names(form)
    }


def _noted(notice: Message, content_type: str, body: bytes) -> Notice:
    assert isinstance(notice, Notice)  # noqa: S101  nothing else is presented by these
    return Notice(body, content_type, cursor=notice.cursor, name=notice.name)


def _reply(
    formats: Mapping[str, Format], form: Format, to: TargetConfig, contract: Contract | None, protocol: str, name: str
) -> Present:
    """A reply in a format. `name`: its media type."""
    if isinstance(to, TailTo):
        # Where replies are the contract's own, in JSON too, an event is its mapping.
        if (form.typed or (form.name == "json" and protocol in _RPC)) and contract is not None and contract.reply.name == EVENT:
            encode = form.codec(contract.reply).encode
            return _enveloped(lambda message: encode(mapped(message)), name)
        if form.name == "json" and (to.envelope or protocol == "websocket" or formats[to.format].opaque):
            codec = form.codec(None)
            return _enveloped(lambda message: codec.encode(plain(message)), JSON)
        return _bare(formats, form, to, contract)
    own = to.verb == "publish"  # a receipt is ours, and plain JSON whatever the target's format
    if form.name == "json" and (own or (to.trusted and contract is None and formats[to.format] is form)):
        return lambda message: message
    source = formats["json"] if own else formats[to.format]
    kind = None if contract is None or (own and not form.typed) else contract.reply
    return presenting(transcode(source, form, kind), name)


def _bare(formats: Mapping[str, Format], form: Format, to: TargetConfig, contract: Contract | None) -> Present:
    """The body alone. A contract that replies in events says nothing of what is inside them."""
    kind = contract.reply if contract is not None and contract.reply.name != EVENT else None
    source = formats[to.format]
    if kind is None and source is form:
        return _readable(form) if form.name == "json" else lambda message: message
    return presenting(transcode(source, form, kind), form.content_types[0])


def _readable(form: Format) -> Present:
    """Bare JSON as it is. A record that is none is shown as a string, as in an event: it would break the array that it is in."""
    codec = form.codec(None)

    def readable(body: bytes) -> bytes:
        try:
            codec.decode(body)
        except CallerError:
            return codec.encode(body.decode(errors="replace"))
        return body

    # Followers of a topic are close together, and each would parse the same record. What is kept is 1 MiB at the most.
    remembered = lru_cache(maxsize=64)(readable)

    def present(message: Message) -> Message:
        body = (remembered if len(message.body) <= REMEMBERED_BYTES else readable)(message.body)
        if body is message.body or body == message.body:
            return message
        return Message(body, JSON, message.key, message.headers, message.cursor, message.timestamp)

    return present


def _enveloped(render: Callable[[Message], bytes], content_type: str) -> Present:
    def present(message: Message) -> Message:
        body = render(message)
        return Message(body, content_type, message.key, message.headers, message.cursor, message.timestamp)

    # One event goes to many callers.
    return shared(present)

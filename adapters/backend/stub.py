"""The backend `stub`: answers from the config, for contract-first work and for trying a route before its backend exists."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from gateway.codec import Contract
from gateway.errors import BackendError, GatewayError, Reason
from gateway.exchange import Call, EndOfMessages, Exchange, Handler
from gateway.message import TEXT, Many, Message, compact
from gateway.part import Part
from gateway.port import BackendConfig
from gateway.status import Code, reason_of_code
from gateway.target import Target, TargetConfig
from gateway.template import Template, text_of

MAX_REPEAT = 1_000_000
Fill = Callable[[Mapping[str, str], Callable[[], Mapping[str, object]]], object]


class Fail(Part):
    """An error in place of an answer."""

    code: Literal[tuple(code.name for code in Code if code)] = "UNAVAILABLE"  # type: ignore[valid-type]
    """A code of google/rpc/code.proto."""
    message: str = "the stub fails as it was told"
    """What the caller reads."""


class Answer(Part):
    """What the stub does with a request."""

    body: Any = None
    """The answer, in JSON. `{name}` in a string is a path variable or a request's field; alone in it, it keeps its type."""
    echo: bool = False
    """Send every request back as it came."""
    delay: float = Field(default=0.0, ge=0, le=3600)
    """Seconds to wait before each answer."""
    repeat: int = Field(default=1, ge=0, le=MAX_REPEAT)
    """How many answers to one request: other than 1 only where the route streams replies."""
    fail: Fail | None = None
    """Fail instead."""
    fail_after: int = Field(default=0, ge=0)
    """Answer so many times before `fail`."""

    @field_validator("body")
    @classmethod
    def _readable(cls, body: object) -> object:
        _compile(body)  # a TemplateError is a ValueError: pydantic tells it with its place
        return body

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.echo and self.body is not None:
            raise ValueError("body and echo are two answers: take one out")
        return self

    def misfit(self, contract: Contract) -> str | None:
        """Why its body can never be the contract's reply, as far as the variables in it leave that to be told."""
        if self.body is None or self.fail is not None:
            return None
        kind = contract.reply
        if isinstance(self.body, dict) and kind.binary and not kind.name.startswith("google.protobuf."):
            strange = next((name for name in self.body if name not in kind.fields), None)
            if strange is not None:
                return f"{strange} is no field of {kind.name}; there are {', '.join(dict.fromkeys(kind.fields))}"
        fixed = _fixed(self.body)
        if fixed is _FILLED:
            return None
        try:
            # What a variable fills may be anything, and is not missing.
            (kind.part if _has_variables(self.body) else kind).check(fixed)
        except GatewayError as error:
            return error.message
        return None


class CallStub(TargetConfig):
    """Answer with one of the backend's answers."""

    verb: ClassVar[str] = "call"
    trusted: ClassVar[bool] = True

    call: str = Field(examples=["stock"])
    """Which of the backend's `answers`."""
    stream: bool = False
    """Without a contract: take and answer any number of messages in one exchange."""

    def many(self, contract: Contract | None) -> Many:
        return contract.many if contract is not None else Many.BOTH if self.stream else Many.NEITHER


class Config(BackendConfig):
    """Answers from the config: fixed, templated from the request, echoed, delayed, failing."""

    verbs: ClassVar[Mapping[str, type[TargetConfig]]] = {"call": CallStub}

    kind: Literal["stub"]
    answers: Mapping[str, Answer] = Field(examples=[{"stock": {"body": {"sku": "{sku}", "quantity": 42}}}])
    """What it can answer, by name."""

    def calling(self, contract: Contract) -> Mapping[str, object]:
        """The answer that has the method's name."""
        return {"call": contract.name.partition("/")[2]}

    def templates(self, target: TargetConfig) -> Sequence[str]:
        assert isinstance(target, CallStub)  # noqa: S101  `verbs` has no other
        answer = self.answers.get(target.call)
        return tuple(_texts(answer.body)) if answer is not None else ()

    def refusals(self, target: TargetConfig, contract: Contract | None) -> Sequence[str]:
        assert isinstance(target, CallStub)  # noqa: S101  `verbs` has no other
        if target.call not in self.answers:
            return (f"the stub has no answer {target.call!r}; it has {', '.join(self.answers) or 'none'}",)
        if self.answers[target.call].repeat > 1 and not target.many(contract) & Many.REPLIES:
            return (f"the answer {target.call!r} is repeated, and a caller of this route gets one reply",)
        if target.format == "json" and contract is not None and (why := self.answers[target.call].misfit(contract)) is not None:
            return (f"the answer {target.call!r} does not fit: {why}",)
        if target.format not in {"json", "text"}:
            return (f"a stub answers in json or text, not in {target.format}",)
        return ()

    def build(self, name: str = "-") -> Stub:
        del name
        return Stub(self)


def _compile(value: object) -> Fill:
    """A JSON value with templates in its strings, as a function of the request."""
    if isinstance(value, dict):
        parts = {key: _compile(part) for key, part in value.items()}
        return lambda params, fields: {key: part(params, fields) for key, part in parts.items()}
    if isinstance(value, list):
        items = [_compile(part) for part in value]
        return lambda params, fields: [part(params, fields) for part in items]
    if not isinstance(value, str):
        return lambda _params, _fields: value
    template = Template(value)
    if not template.names:
        return lambda _params, _fields: value
    if len(template.names) == 1 and value == f"{{{template.names[0]}}}":
        name = template.names[0]
        return lambda params, fields: params[name] if name in params else fields().get(name)
    return template.render


class Stub:
    """See `Backend`."""

    def __init__(self, config: Config) -> None:
        self._answers = config.answers

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        """Nothing to let go of."""

    async def check(self) -> None:
        """A stub always answers."""

    def handler(self, target: Target) -> Handler:
        spec = target.spec
        assert isinstance(spec, CallStub)  # noqa: S101  `verbs` has no other
        answer = self._answers[spec.call]
        reply = _reply(target, answer)
        many = spec.many(target.contract)
        streams = many is Many.BOTH

        async def run(exchange: Exchange) -> None:
            answered = 0
            try:
                while True:
                    message = await (_last(exchange) if many is Many.REQUESTS else exchange.receive())
                    for _ in range(answer.repeat):
                        if answer.delay:
                            await _pause(exchange.call, answer.delay, safe=target.safe)
                        if answer.fail is not None and answered >= answer.fail_after:
                            raise BackendError(reason_of_code(Code[answer.fail.code]), answer.fail.message)
                        await exchange.send(reply(exchange.call, message))
                        answered += 1
                    if not streams:
                        return
            except EndOfMessages:
                if not answered and not many & Many.REPLIES:
                    raise

        return run


def _reply(target: Target, answer: Answer) -> Callable[[Call, Message], Message]:
    if answer.echo:
        return lambda _call, message: message
    kind = target.content_type

    def encode(value: object) -> bytes:
        return text_of(value).encode() if kind == TEXT or not isinstance(value, str) else compact(value).encode()

    if not _has_variables(answer.body):
        fixed = Message(encode(answer.body), kind)
        return lambda _call, _message: fixed
    fill = _compile(answer.body)
    return lambda call, message: Message(encode(fill(call.params, lambda: target.fields(message.body))), kind)


def _texts(value: object) -> Iterator[str]:
    """Every string in a JSON value, but its keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


async def _last(exchange: Exchange) -> Message:
    """The last of many requests, which the one reply is made of. Raises EndOfMessages where there is none."""
    last = await exchange.receive()
    try:
        while True:
            last = await exchange.receive()
    except EndOfMessages:
        return last


_FILLED = object()


def _fixed(value: object) -> object:
    """A body without all that variables fill; _FILLED where they fill the whole."""
    if isinstance(value, dict):
        return {key: fixed for key, part in value.items() if (fixed := _fixed(part)) is not _FILLED}
    if isinstance(value, list):
        return [fixed for part in value if (fixed := _fixed(part)) is not _FILLED]
    return _FILLED if isinstance(value, str) and Template(value).names else value


def _has_variables(value: object) -> bool:
    return any(Template(text).names for text in _texts(value))


async def _pause(call: Call, seconds: float, *, safe: bool) -> None:
    """Wait, but not past the caller's deadline: a stub that is late answers as a backend that is late would."""
    loop = asyncio.get_running_loop()
    if call.deadline is None or loop.time() + seconds < call.deadline:
        await asyncio.sleep(seconds)
        return
    await asyncio.sleep(max(0.0, call.deadline - loop.time()))
    raise BackendError(Reason.TIMED_OUT if safe else Reason.UNKNOWN_OUTCOME, "the backend did not answer in time")

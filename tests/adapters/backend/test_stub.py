"""The backend that answers from its config."""

from __future__ import annotations

import asyncio
import json

import pytest
from pydantic import ValidationError

from adapters.backend.stub import CallStub, Config
from gateway.codec import Contract
from gateway.errors import BackendError, CallerError, Outcome, Reason
from gateway.exchange import Call, EndOfMessages, Memory
from gateway.message import JSON, TEXT, Many, Message
from gateway.status import Code, outcome_of, reason_of_code
from gateway.target import Target
from tests.contract.backend import CallContract, Rig

TEA = Message(b'{"sku":"tea","quantity":2}', JSON)


class Kind:
    """A type of one field, which must be 1."""

    name = "t.T"
    fields = ("a",)
    binary = True

    def __init__(self, *, whole: bool = True) -> None:
        self._whole = whole

    @property
    def part(self):
        return Kind(whole=False)

    def check(self, value):
        if value not in (1, {"a": 1}) and (self._whole or value != {}):
            raise CallerError(Reason.MALFORMED, "a is wrong")
        return value


def contract(many: Many) -> Contract:
    return Contract("t.S/M", Kind(), Kind(), many)


def target(call: str, *, many: Many | None = None, safe: bool = False, content_type: str = JSON, stream: bool = False) -> Target:
    spec = CallStub(backend="stub", call=call, stream=stream)
    return Target("route", spec, contract(many) if many is not None else None, content_type, json.loads, safe)


def config(**answers: object) -> Config:
    return Config.model_validate({"kind": "stub", "answers": answers})


async def asked(answer: dict[str, object], *requests: Message, call: Call | None = None, **settings: object) -> list[object]:
    """What one answer sends to these requests."""
    async with config(a=answer).build() as stub:
        memory = Memory(*(requests or (TEA,)), call=call)
        await stub.handler(target("a", **settings))(memory)
    return [json.loads(reply.body) for reply in memory.replies]


class TestContract(CallContract):
    @pytest.fixture
    def rig(self) -> Rig:
        answers = {
            "answers": {"body": {"sku": "{sku}"}},
            "fails": {"fail": {"code": "NOT_FOUND"}},
            "hangs": {"body": 1, "delay": 3600},
            "streams": {"body": {"sku": "{sku}"}, "repeat": 3},
        }
        reply = Message(b'{"sku":"tea"}', JSON)
        return Rig(
            backend=config(**answers),
            answers=target("answers"),
            request=TEA,
            reply=reply,
            fails=target("fails"),
            streams=target("streams", many=Many.REPLIES),
            stream=(reply,) * 3,
            talks=target("answers", many=Many.BOTH),
        )


async def test_a_fixed_body_is_sent_as_json():
    assert [{"a": [1, None, "x"]}] == await asked({"body": {"a": [1, None, "x"]}})
    assert [None] == await asked({})


async def test_a_variable_alone_keeps_its_type_and_one_in_a_text_is_text():
    assert [{"n": 2, "t": "2 of tea", "deep": [{"sku": "tea"}]}] == await asked(
        {"body": {"n": "{quantity}", "t": "{quantity} of {sku}", "deep": [{"sku": "{sku}"}]}}
    )


async def test_a_path_variable_comes_before_a_field_of_the_same_name():
    call = Call("1", "rest", "GET /x", params={"sku": "milk"})
    assert [{"sku": "milk"}] == await asked({"body": {"sku": "{sku}"}}, call=call)


async def test_a_variable_alone_that_nobody_gives_is_null_and_one_in_a_text_is_the_caller_s_mistake():
    assert [{"x": None}] == await asked({"body": {"x": "{colour}"}})
    with pytest.raises(CallerError) as caught:
        await asked({"body": {"x": "a {colour} one"}})
    assert Reason.MALFORMED is caught.value.reason


async def test_an_echo_is_the_request_itself():
    async with config(a={"echo": True}).build() as stub:
        memory = Memory(TEA)
        await stub.handler(target("a"))(memory)
    assert TEA is memory.replies[0]


@pytest.mark.parametrize(("body", "sent"), [("hello {sku}", b"hello tea"), ("hello", b"hello"), ({"a": 1}, b'{"a":1}')])
async def test_text_is_sent_bare_to_a_target_of_text(body, sent):
    async with config(a={"body": body}).build() as stub:
        memory = Memory(TEA)
        await stub.handler(target("a", content_type=TEXT))(memory)
    assert (TEXT, sent) == (memory.replies[0].content_type, memory.replies[0].body)


async def test_a_string_is_quoted_for_a_target_of_json():
    assert ["hello tea"] == await asked({"body": "hello {sku}"})
    assert ["hello"] == await asked({"body": "hello"})


async def test_a_conversation_is_answered_request_by_request():
    milk = Message(b'{"sku":"milk"}', JSON)
    assert ["tea", "tea", "milk", "milk"] == await asked({"body": "{sku}", "repeat": 2}, TEA, milk, many=Many.BOTH)
    assert ["tea", "milk"] == await asked({"body": "{sku}"}, TEA, milk, stream=True)


async def test_many_requests_with_one_reply_are_answered_once_by_the_last():
    milk = Message(b'{"sku":"milk"}', JSON)
    assert ["milk"] == await asked({"body": "{sku}"}, TEA, milk, many=Many.REQUESTS)


@pytest.mark.parametrize("many", [Many.NEITHER, Many.REQUESTS])
async def test_one_reply_needs_a_request(many):
    async with config(a={"body": 1}).build() as stub:
        with pytest.raises(EndOfMessages):
            await stub.handler(target("a", many=many))(Memory())


async def test_a_stream_may_be_empty():
    assert [] == await asked({"body": 1, "repeat": 0}, many=Many.REPLIES)


@pytest.mark.parametrize("code", [code for code in Code if code])
async def test_it_fails_with_any_code_and_its_message(code):
    with pytest.raises(BackendError) as caught:
        await asked({"fail": {"code": code.name, "message": "no tea"}})
    assert (reason_of_code(code), "no tea") == (caught.value.reason, caught.value.message)


async def test_it_fails_after_so_many_answers():
    async with config(a={"body": 1, "repeat": 5, "fail": {}, "fail_after": 2}).build() as stub:
        memory = Memory(TEA)
        with pytest.raises(BackendError):
            await stub.handler(target("a", many=Many.REPLIES))(memory)
    assert 2 == len(memory.replies)


@pytest.mark.parametrize(
    ("safe", "reason", "outcome"), [(True, Reason.TIMED_OUT, Outcome.FAILED), (False, Reason.UNKNOWN_OUTCOME, Outcome.UNKNOWN)]
)
async def test_a_delay_past_the_deadline_is_answered_as_a_late_backend_would(safe, reason, outcome):
    call = Call("1", "rest", "GET /x", deadline=asyncio.get_running_loop().time() + 0.01)
    with pytest.raises(BackendError) as caught:
        await asked({"body": 1, "delay": 3600}, call=call, safe=safe)
    assert (reason, outcome) == (caught.value.reason, outcome_of(caught.value))


async def test_a_delay_before_the_deadline_is_just_a_delay():
    call = Call("1", "rest", "GET /x", deadline=asyncio.get_running_loop().time() + 20)
    assert [1] == await asked({"body": 1, "delay": 0.001}, call=call)
    assert [1] == await asked({"body": 1, "delay": 0.001})


def test_what_cannot_work_is_refused_when_the_config_is_loaded():
    made = config(one={"body": 1}, many={"body": 1, "repeat": 2})
    one, many = (CallStub(backend="stub", call=name) for name in ("one", "many"))
    assert () == made.refusals(one, None)
    assert () == made.refusals(many, contract(Many.REPLIES))
    assert "gets one reply" in made.refusals(many, None)[0]
    fits = config(right={"body": {"a": 1}}, wrong={"body": {"a": 2}}, strange={"body": {"b": "{x}"}}, told={"body": {"a": "{x}"}})
    told = {name: fits.refusals(CallStub(backend="stub", call=name), contract(Many.NEITHER)) for name in fits.answers}
    assert () == told["right"] == told["told"]
    assert ("the answer 'wrong' does not fit: a is wrong",) == told["wrong"]
    assert ("the answer 'strange' does not fit: b is no field of t.T; there are a",) == told["strange"]
    assert "it has one, many" in made.refusals(CallStub(backend="stub", call="two"), None)[0]
    assert "not in protobuf" in made.refusals(CallStub(backend="stub", call="one", format="protobuf"), None)[0]


@pytest.mark.parametrize(
    "answer",
    [
        {"body": "{"},
        {"body": ["{a b}"]},
        {"delay": -1},
        {"repeat": -1},
        {"fail": {"code": "OK"}},
        {"x": 1},
        {"echo": True, "body": 1},
    ],
)
def test_an_answer_that_cannot_be_read_is_refused(answer):
    with pytest.raises(ValidationError):
        config(a=answer)

"""Path, query and body as one message: what is refused when loading, and what holds for any message."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.codec.protobuf import FORMAT
from gateway.codec import ABSENT, MESSAGE, NOTHING_GIVEN, Given, JsonOptions, Rule
from gateway.errors import CallerError, Reason
from tests.spec.contract import descriptor_set

METHODS = FORMAT.contracts([descriptor_set()]).methods
LEAVES = METHODS["library.v1.Library/Echo"].request
EDIT = METHODS["library.v1.Library/EditBook"].request
STRUCT = METHODS["library.v1.Library/Free"].request
RAW = METHODS["library.v1.Library/Raw"].request


@pytest.mark.parametrize(
    ("kind", "rule", "why"),
    [
        (LEAVES, Rule(variables=("nothing",)), r"\{nothing\} is no field of library.v1.Leaves"),
        (LEAVES, Rule(variables=("inner.nothing",)), r"\{inner.nothing\} is no field"),
        (LEAVES, Rule(variables=("a_string.x",)), r"\{a_string.x\} is no field"),
        (LEAVES, Rule(variables=("strings",)), "is repeated"),
        (LEAVES, Rule(variables=("times",)), "is repeated"),
        (LEAVES, Rule(variables=("many",)), "is a list of messages"),
        (LEAVES, Rule(variables=("many.a_string",)), "is a list of messages"),
        (LEAVES, Rule(variables=("labels",)), "is a map"),
        (LEAVES, Rule(variables=("labels.key",)), "is a map"),
        (LEAVES, Rule(variables=("inner",)), "is a message"),
        (LEAVES, Rule(variables=("struct",)), "is a message"),
        (LEAVES, Rule(variables=("any",)), "is a message"),
        (LEAVES, Rule(variables=("a_string", "aString")), "is set by the path"),
        (LEAVES, Rule(variables=("left", "right")), "stands beside left"),
        (LEAVES, Rule(variables=("left", "deep.a_string")), "stands beside left"),
        (LEAVES, Rule(variables=("deep.left", "deep.right")), "stands beside left"),
        (LEAVES, Rule(body="nothing"), "the body, nothing, is no field"),
        (LEAVES, Rule(body="inner.a_string"), "the body, inner.a_string, is no top-level field"),
        (LEAVES, Rule(body="a_string", variables=("a_string",)), "the body, a_string, is set by the path"),
        (LEAVES, Rule(body="right", variables=("left",)), "the body, right, stands beside left"),
        (STRUCT, Rule(variables=("a",)), "has no fields in its JSON form"),
        (STRUCT, Rule(body="fields"), "has no fields in its JSON form"),
    ],
)
def test_a_rule_that_cannot_work_is_refused_when_loading_with_the_reason(kind, rule, why):
    with pytest.raises(ValueError, match=why):
        kind.bind(rule)


def test_a_variable_may_be_inside_what_the_body_is_and_be_any_bare_scalar():
    bind = LEAVES.bind(Rule(body="inner", variables=("inner.a_string", "time", "int64_value", "mask")))
    given_ = Given({"inner.a_string": "x", "time": "2026-01-02T03:04:05Z", "int64_value": "7", "mask": "a_b"})
    message = {"inner": {"aString": "x", "aBool": True}, "time": "2026-01-02T03:04:05Z", "int64Value": "7", "mask": "aB"}
    assert message == LEAVES.check(bind({"aBool": True}, given_))


def test_a_variable_that_a_call_does_not_have_is_not_bound():
    bind = LEAVES.bind(Rule(variables=("inner.a_string",)))
    assert {"inner": {"aBool": True}} == bind({"inner": {"aBool": True}}, NOTHING_GIVEN)


def test_a_message_that_is_no_http_request_is_the_message_and_what_the_path_adds():
    bind = LEAVES.bind(MESSAGE)
    assert {"aString": "x"} == bind({"aString": "x"}, NOTHING_GIVEN)
    assert {"aString": "x"} == bind({"aString": "x"}, Given({}, (("start", "latest"),)))


def test_a_response_of_one_field_is_found_under_either_name_with_a_default_of_its_own_form():
    names = LEAVES.under(JsonOptions(enum_numbers=True, proto_names=True))
    assert [7, 0] == [names.pick("anInt32")({"an_int32": 7}), names.pick("colour")({})]
    assert "COLOUR_UNSPECIFIED" == LEAVES.pick("colour")({})
    with pytest.raises(ValueError, match="the response body, nothing, is no field"):
        LEAVES.pick("nothing")


def test_what_is_an_http_body_is_told():
    assert [True, True, False] == [RAW.raw("*"), RAW.raw(""), RAW.raw("data")]
    assert [False, True, False, False] == [LEAVES.raw(field) for field in ("*", "raw", "any", "nothing")]


def test_a_body_with_both_names_of_what_the_path_goes_through_is_refused():
    bind = EDIT.bind(Rule(variables=("book.author.given_name",)))
    params = Given({"book.author.given_name": "x"})
    assert {"book": {"author": {"name": "n", "givenName": "x"}}} == bind({"book": {"author": {"name": "n"}}}, params)
    inner = LEAVES.bind(Rule(variables=("int64_value", "inner.inner.a_string")))
    both = {"inner": {"a_bool": True, "aBool": True}}
    with pytest.raises(CallerError):
        LEAVES.check(inner(both, Given({"int64_value": "1", "inner.inner.a_string": "x"})))


# What holds for any message.

TEXTS = {
    "a_string": st.text(st.characters(codec="utf-8"), max_size=5).map(lambda text: (text, text)),
    "a_bool": st.sampled_from([("true", True), ("false", False)]),
    "an_int32": st.integers(-(2**31), 2**31 - 1).map(lambda number: (str(number), number)),
    "a_uint64": st.integers(0, 2**64 - 1).map(lambda number: (str(number), str(number))),
    "a_double": st.floats(allow_nan=False, allow_infinity=False).map(lambda number: (repr(number), number)),
    "maybe": st.text("ab.&", max_size=3).map(lambda text: (text, text)),
    "colour": st.sampled_from([("RED", "RED"), ("2", "GREEN"), ("9", 9)]),
    "span": st.just(("1.5s", "1.500s")),
}
LISTS = {"strings": TEXTS["a_string"], "ints": TEXTS["an_int32"]}
ABOVE = st.sampled_from(["", "inner.", "deep.", "inner.deep.", "deep.inner.inner."])


def _set(message: dict, path: str, value: object) -> None:
    *steps, last = path.split(".")
    for step in steps:
        message = message.setdefault(step, {})
    if last in LISTS:
        message.setdefault(last, []).append(value)
    else:
        message[last] = value


@st.composite
def _messages(draw):
    """A message, as the texts that say it and as JSON."""
    said: dict[str, list[tuple[str, object]]] = {}
    for _ in range(draw(st.integers(0, 6))):
        name = draw(st.sampled_from(sorted(TEXTS | LISTS)))
        path = draw(ABOVE) + name
        if name in LISTS:
            said.setdefault(path, []).append(draw(LISTS[name]))
        else:
            said[path] = [draw(TEXTS[name])]
    pairs = [(path, text) for path, texts in said.items() for text in texts]
    message: dict = {}
    for path, (_, value) in pairs:
        _set(message, path, value)
    return [(path, text) for path, (text, _) in pairs], message


@given(_messages(), st.randoms(use_true_random=False))
def test_a_message_is_the_same_whether_path_query_or_body_says_it(said, random):
    pairs, message = said
    whole = LEAVES.check(message)
    assert whole == LEAVES.check(LEAVES.bind(Rule(body=""))(ABSENT, Given({}, tuple(pairs))))
    singles = [path for path, _ in pairs if path.rpartition(".")[2] in TEXTS]
    fixed = random.sample(singles, min(len(singles), 2))
    bind = LEAVES.bind(Rule(body="", variables=tuple(fixed)))
    params = {path: text for path, text in pairs if path in fixed}
    query = tuple((path, text) for path, text in pairs if path not in fixed)
    assert whole == LEAVES.check(bind(ABSENT, Given(params, query)))


@given(_messages(), st.sampled_from(["a_string", "inner.a_bool", "deep.inner.an_int32"]))
def test_a_value_of_the_path_stands_or_the_call_is_refused_and_the_body_is_left_as_it_was(said, variable):
    _, body = said
    before = copy.deepcopy(body)
    texts = {"a_string": "path", "inner.a_bool": "true", "deep.inner.an_int32": "7"}
    bind = LEAVES.bind(Rule(variables=(variable,)))
    try:
        found = bind(body, Given({variable: texts[variable]}))
    except CallerError as error:
        assert Reason.MALFORMED is error.reason  # noqa: PT017  both are answers
        part = body
        for step in variable.split("."):
            part = part[step]  # it was named
    else:
        expected = copy.deepcopy(before)
        _set(expected, variable, {"path": "path", "true": True, "7": 7}[texts[variable]])
        assert LEAVES.check(expected) == LEAVES.check(found)
    assert before == body


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=4)), max_size=3), st.sampled_from(["reject", "ignore"]))
def test_any_query_is_a_message_or_malformed(query, unknown):
    try:
        LEAVES.pack(LEAVES.bind(Rule(body="", unknown_query=unknown))(ABSENT, Given({}, tuple(query))))
    except CallerError as error:
        assert Reason.MALFORMED is error.reason  # noqa: PT017  both are answers

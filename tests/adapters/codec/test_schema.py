"""JSON Schemas as the types of messages: what is accepted, what is told of what is not, and what a schema may be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.codec.json import FORMAT as JSON_FORMAT
from adapters.codec.protobuf import FORMAT as PROTOBUF
from adapters.codec.schema import MAX_ERRORS, compiled
from gateway.codec import ABSENT, Given, JsonOptions, Rule
from gateway.contract import ContractError
from gateway.errors import CallerError, Reason
from gateway.schema import Schemas
from gateway.transcode import transcode

ORDER = {
    "type": "object",
    "required": ["customer", "quantity"],
    "properties": {
        "customer": {"type": "string", "pattern": "^[a-z]+$"},
        "quantity": {"type": "integer", "minimum": 1},
        "gift": {"type": "boolean"},
        "price": {"type": ["number", "null"]},
        "tags": {"type": "array", "items": {"type": "integer"}},
        "address": {"$ref": "#/$defs/address"},
    },
    "additionalProperties": False,
    "$defs": {"address": {"type": "object", "properties": {"a/b": {"type": "string"}, "~": {"type": "string"}}}},
}
SECRET = "sesame-open-7261"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


@pytest.fixture
def kind(tmp_path):
    return lambda schema=ORDER, formats=False: compiled(schema, tmp_path, formats=formats)


def refused(kind, value) -> dict[str, str]:
    """What is told of a value that does not fit, by pointer."""
    with pytest.raises(CallerError) as caught:
        kind.check(value)
    assert Reason.INVALID is caught.value.reason
    return {detail.pointer: detail.detail for detail in caught.value.details}


def problem(schema, folder) -> str:
    with pytest.raises(ContractError) as caught:
        compiled(schema, folder, formats=False)
    return str(caught.value)


def test_what_fits_passes_as_the_very_value(kind):
    value = {"customer": "ada", "quantity": 2, "tags": [1, 2]}
    assert value is kind().check(value)


def test_json_that_fits_goes_out_as_the_bytes_that_came_in(kind):
    body = b'{ "customer": "ada",\n "quantity": 2.0 }'
    assert body is transcode(JSON_FORMAT, JSON_FORMAT, kind())(body, Given())


def test_every_place_that_does_not_fit_is_told_by_its_pointer(kind):
    assert {
        "/customer": "must match ^[a-z]+$",
        "/quantity": "must be at least 1",
        "/tags/1": "must be integer",
        "/address/a~1b": "must be string",
        "/address/~0": "must be string",
        "/colour": "has a name that is not known here",
    } == refused(kind(), {"customer": "Ada", "quantity": 0, "tags": [1, "2"], "address": {"a/b": 1, "~": 1}, "colour": "red"})


def test_what_is_missing_is_told_by_the_pointer_that_it_would_have(kind):
    assert {"/customer": "is required", "/quantity": "is required"} == refused(kind(), {})


def test_nothing_that_is_told_echoes_what_came(kind):
    value = {"customer": SECRET, "quantity": SECRET, f"{SECRET}!": 1, "tags": [SECRET], "price": SECRET}
    told = refused(kind(), value)
    assert SECRET not in json.dumps(told)
    assert "has a name that is not known here" == told[""]


@pytest.mark.parametrize(
    ("schema", "value", "told"),
    [
        ({"type": ["string", "null"]}, 1, "must be null or string"),
        ({"enum": ["a", 1, None]}, 2, 'must be one of "a", 1, null'),
        ({"const": {"a": 1}}, 2, 'must be {"a": 1}'),
        ({"maximum": 5}, 6, "must be at most 5"),
        ({"exclusiveMinimum": 5}, 5, "must be more than 5"),
        ({"exclusiveMaximum": 5}, 5, "must be less than 5"),
        ({"multipleOf": 2}, 3, "must be a multiple of 2"),
        ({"minLength": 1}, "", "must have at least 1 character"),
        ({"maxLength": 2}, "abc", "must have at most 2 characters"),
        ({"minItems": 2}, [], "must have at least 2 items"),
        ({"maxItems": 1}, [1, 2], "must have at most 1 item"),
        ({"minProperties": 1}, {}, "must have at least 1 field"),
        ({"maxProperties": 1}, {"a": 1, "b": 2}, "must have at most 1 field"),
        ({"uniqueItems": True}, [1, 1], "must not have the same item twice"),
        ({"contains": {"const": 1}}, [2], "has not the items that it must contain"),
        ({"propertyNames": {"maxLength": 1}}, {"ab": 1}, "has a name that does not fit"),
        ({"anyOf": [{"const": 1}, {"const": 2}]}, 3, "fits none of the schemas that it may have"),
        ({"oneOf": [{"minimum": 1}, {"minimum": 2}]}, 3, "must fit exactly one of the schemas that it may have"),
        ({"not": {"type": "string"}}, "a", "must not be so"),
        ({"prefixItems": [True], "unevaluatedItems": False}, [1, 2], "has items that are not known here"),
        ({"prefixItems": [True], "items": False}, [1], None),
        (False, 1, "must not be there"),
        ({"enum": ["x" * 300]}, 1, 'must be one of "' + "x" * 184 + "..."),
    ],
)
def test_each_rule_is_told_in_words(kind, schema, value, told):
    if told is None:
        assert value == kind(schema if isinstance(schema, dict) else {"allOf": [schema]}).check(value)
    else:
        assert {"": told} == refused(kind({"allOf": [schema]}), value)


def test_dynamic_references_and_unevaluated_properties_are_those_of_2020_12(kind):
    tree = {
        "$id": "https://tea.example/tree",
        "$dynamicAnchor": "node",
        "type": "object",
        "properties": {"children": {"type": "array", "items": {"$dynamicRef": "#node"}}},
        "unevaluatedProperties": False,
    }
    assert {"/children/0/x": "has a name that is not known here"} == refused(kind(tree), {"children": [{"x": 1}]})


def test_a_format_is_a_remark_unless_it_is_asked_for(kind):
    schema = {"format": "date-time"}
    assert "soon" == kind(schema).check("soon")
    assert {"": "must be a date-time"} == refused(kind(schema, formats=True), "soon")


def test_so_many_places_are_told_and_no_more(kind):
    told = refused(kind({"items": {"type": "string"}}), list(range(400)))
    assert [f"/{n}" for n in range(20)] == list(told)


def test_of_a_large_message_the_first_place_is_told(kind):
    """The library makes every error before it gives the first: half a million of them would take the loop for seconds."""
    told = refused(kind({"items": {"type": "object", "required": ["a", "b"]}}), [{}] * MAX_ERRORS)
    assert {"/0/a": "is required"} == told


def test_of_a_large_message_with_many_ways_to_fit_no_place_is_told(kind):
    """The library makes the errors of every branch: of 300,000 numbers that would be 9 seconds and a gigabyte."""
    schema = {"anyOf": [{"items": {"type": "string"}}, {"items": {"type": "boolean"}}]}
    assert {"": "does not fit; it is too large for the place to be looked for"} == refused(kind(schema), [1] * 300_000)


def test_a_deep_message_with_two_ways_to_fit_at_every_depth_does_not_double_with_each(kind):
    node = {"properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    schema = {"anyOf": [{"type": "integer"}, {"type": "object", **node}, {"type": "object", **node, "minProperties": 1}]}
    value: object = "no integer"
    for _ in range(99):
        value = {"next": value}
    assert {"": "does not fit; it is too large for the place to be looked for"} == refused(kind(schema), value)


def test_a_pattern_that_others_take_for_ever_over_is_quick(kind):
    # Backtracking would take longer than the universe has.
    assert {"": "must match ^(a+)+$"} == refused(kind({"pattern": "^(a+)+$"}), "a" * 200_000 + "!")


@pytest.mark.parametrize("pattern", ["(?=a)b", "(?<!a)b", r"(a)\1"])
def test_a_pattern_that_could_take_for_ever_is_refused(tmp_path, pattern):
    text = problem({"properties": {"a": {"pattern": pattern}}}, tmp_path)
    assert text.startswith("the schema at /properties/a/pattern: this is no regular expression that is served")


def test_a_schema_of_itself_is_followed_as_deep_as_a_message_may_be(kind):
    value: dict = {}
    for _ in range(99):
        value = {"next": value}
    chain = kind({"type": "object", "properties": {"next": {"$ref": "#"}}, "additionalProperties": False})
    assert value is chain.check(value)
    assert {"/next/next": "must be object"} == refused(chain, {"next": {"next": 1}})


def test_a_reference_that_only_leads_to_itself_ends(kind):
    assert 1 == kind({"$ref": "#"}).check(1)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "schemas").mkdir()

    def write(name: str, value) -> None:
        (tmp_path / name).write_text(value if isinstance(value, str) else json.dumps(value))

    return tmp_path, write


def test_a_reference_may_lead_to_a_file_beside(folder):
    path, write = folder
    write("schemas/order.json", {"properties": {"sku": {"$ref": "common.json#/$defs/sku"}}})
    write("schemas/common.json", {"$defs": {"sku": {"maxLength": 3}}})
    kind = compiled("schemas/order.json", path, formats=False)
    assert "schemas/order.json" == kind.name
    assert {"/sku": "must have at most 3 characters"} == refused(kind, {"sku": "long"})


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("http://127.0.0.1:1/x.json", "is not fetched: a $ref leads to a file beside the schema"),
        ("https://json.schemastore.org/any", "is not fetched: a $ref leads to a file beside the schema"),
        ("file://elsewhere/x.json", "is not fetched: a $ref leads to a file beside the schema"),
        ("../secret.json", "is not read: a $ref leads to a file in the schema's folder or below"),
        ("%2e%2e/secret.json", "is not read: a $ref leads to a file in the schema's folder or below"),
        ("file:///etc/passwd", "is not read: a $ref leads to a file in the schema's folder or below"),
        ("missing.json", "missing.json cannot be read (no such file or directory)"),
        ("broken.json", "broken.json is not acceptable JSON: "),
        ("#/$defs/nowhere", "/$defs/nowhere"),
    ],
)
def test_a_reference_to_anywhere_else_is_refused(folder, reference, told):
    path, write = folder
    write("secret.json", {})
    write("schemas/broken.json", "{")
    write("schemas/order.json", {"$ref": reference})
    text = problem("schemas/order.json", path)
    assert text.startswith("schemas/order.json")
    assert told in text


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "schemas/a.json is not acceptable JSON: "),
        ('{"type": "string", "type": "object"}', "schemas/a.json is not acceptable JSON: a key stands twice in one object"),
        ("[" * 200 + "]" * 200, "schemas/a.json is not acceptable JSON: it is nested deeper than 100"),
        ("[]", "schemas/a.json is no JSON Schema: that is an object, or true or false"),
        ('{"type": "objekt"}', "schemas/a.json at /type: fits none of the schemas that it may have"),
        ('{"properties": {"a": {"minimum": "1"}}}', "schemas/a.json at /properties/a/minimum: must be number"),
        (
            '{"$schema": "http://json-schema.org/draft-07/schema#"}',
            "is of another dialect (http://json-schema.org/draft-07/schema#)",
        ),
        ('{"$schema": 1}', "schemas/a.json"),
    ],
)
def test_what_is_no_schema_is_told_with_the_place(folder, content, told):
    path, write = folder
    write("schemas/a.json", content)
    assert told in problem("schemas/a.json", path)


def test_a_schema_that_is_not_there_is_told_with_where_it_is_looked_for(tmp_path):
    expected = "order.json cannot be read (no such file or directory); it is looked for beside this file"
    assert expected == problem("order.json", tmp_path)


def test_the_dialect_may_be_said(kind):
    assert 1 == kind({"$schema": DIALECT}).check(1)
    assert 1 == kind({"$schema": f"{DIALECT}#"}).check(1)


def test_without_a_schema_any_json_fits(kind):
    assert [1, None, "a"] == kind(None).check([1, None, "a"])


def test_there_is_no_binary_form(kind):
    assert not kind().binary
    with pytest.raises(ValueError, match="has no binary form"):
        PROTOBUF.codec(kind())


@pytest.mark.parametrize(
    ("rule", "body", "params", "query", "expected"),
    [
        (Rule(), {"quantity": 1}, {"customer": "ada"}, (), {"customer": "ada", "quantity": 1}),
        (Rule(), ABSENT, {"customer": "ada"}, (), {"customer": "ada"}),
        (Rule(), {"quantity": 1}, {"quantity": "1"}, (), {"quantity": 1}),
        (Rule(body=""), ABSENT, {}, (("quantity", "2"), ("gift", "true")), {"quantity": 2, "gift": True}),
        (Rule(body=""), ABSENT, {}, (("quantity", "2.5"),), {"quantity": "2.5"}),
        (Rule(body=""), ABSENT, {}, (("quantity", "010"), ("gift", "yes")), {"quantity": 10, "gift": "yes"}),
        (Rule(body=""), ABSENT, {}, (("price", "1e2"), ("customer", "5")), {"price": 100.0, "customer": "5"}),
        (Rule(body=""), ABSENT, {}, (("price", "true"), ("price2", "1")), {"price": "true", "price2": "1"}),
        (Rule(body=""), ABSENT, {}, (("tags", "1"), ("tags", "2"), ("tags", "x")), {"tags": [1, 2, "x"]}),
        (Rule(body=""), ABSENT, {}, (), {}),
        (Rule(body="", unknown_query="ignore"), ABSENT, {}, (("utm", "x"), ("quantity", "1")), {"quantity": 1}),
        (Rule(body="address"), {"a": 1}, {}, (("quantity", "1"),), {"quantity": 1, "address": {"a": 1}}),
        (Rule(), {"customer": "ada"}, {}, (("quantity", "1"),), {"customer": "ada"}),
    ],
)
def test_path_query_and_body_are_one_message_in_the_types_of_the_schema(kind, rule, body, params, query, expected):
    assert expected == kind().bind(rule)(body, Given(params, query))


@pytest.mark.parametrize(
    ("rule", "body", "given", "pointer"),
    [
        (Rule(), {"customer": "bob"}, Given({"customer": "ada"}), "/customer"),
        (Rule(body=""), ABSENT, Given({"quantity": "1"}, (("quantity", "1"),)), "/quantity"),
        (Rule(body=""), ABSENT, Given({}, (("gift", "true"), ("gift", "true"))), "/gift"),
        (Rule(body=""), ABSENT, Given({"tags": "1"}, (("tags", "2"),)), "/tags"),
        (Rule(), ABSENT, Given(), None),
        (Rule(), [1], Given({"customer": "ada"}), None),
    ],
)
def test_what_contradicts_is_malformed(kind, rule, body, given, pointer):
    with pytest.raises(CallerError) as caught:
        kind().bind(rule)(body, given)
    assert Reason.MALFORMED is caught.value.reason
    assert ([pointer] if pointer else []) == [detail.pointer for detail in caught.value.details]


@pytest.mark.parametrize("rule", [Rule(variables=("address.city",)), Rule(variables=("colour",)), Rule(body="colour")])
def test_a_rule_that_can_never_fit_is_refused_when_loading(kind, rule):
    with pytest.raises(ValueError, match=r"colour|address\.city"):
        kind().bind(rule)


def test_a_response_may_be_one_property(kind):
    assert [1] == kind().pick("tags")({"tags": [1]})
    assert kind().pick("tags")({}) is None
    with pytest.raises(ValueError, match="no property colour"):
        kind().pick("colour")


def test_the_options_of_protobufs_json_change_nothing(kind):
    one = kind()
    assert one is one.under(JsonOptions(defaults=True))
    assert not one.raw("*")


def test_what_a_body_may_lack_is_anything(kind):
    assert {} == kind().part.check({})


def test_a_document_tells_the_schema_with_its_references_resolved(folder):
    path, write = folder
    write(
        "schemas/order.json", {"$schema": DIALECT, "required": ["sku"], "properties": {"sku": {"$ref": "common.json"}, "n": {}}}
    )
    write("schemas/common.json", {"maxLength": 3})
    kind = compiled("schemas/order.json", path, formats=False)
    told = {"required": ["sku"], "properties": {"sku": {"maxLength": 3}, "n": {}}}
    assert told == kind.schema(Schemas(), sent=True)
    assert {"required": [], "properties": {"n": {}}} == kind.schema(Schemas(), sent=False, without=("sku",))
    assert {"maxLength": 3} == kind.schema(Schemas(), sent=False, field="sku")
    assert ["n"] == [leaf.path for leaf in kind.leaves(Schemas(), ("sku",))]


def test_a_digest_is_of_the_schema_with_all_that_it_refers_to(folder):
    path, write = folder
    write("schemas/order.json", {"properties": {"sku": {"$ref": "common.json"}}})
    write("schemas/common.json", {"maxLength": 3})
    first = compiled("schemas/order.json", path, formats=False).digest
    write("schemas/order.json", '{"properties":{"sku":{"$ref":"common.json"} } }')
    assert first == compiled("schemas/order.json", path, formats=False).digest
    write("schemas/common.json", {"maxLength": 4})
    assert first != compiled("schemas/order.json", path, formats=False).digest


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@given(JSON)
def test_whatever_comes_fits_or_is_invalid_and_nothing_else(value):
    kind = compiled(ORDER, Path(), formats=True)
    if kind._validator.is_valid(value):
        assert value is kind.check(value)
    else:
        assert 0 < len(refused(kind, value)) <= 20

"""The schemas of messages, held against what the codec takes and sends."""

from __future__ import annotations

import functools
import json

import jsonschema_rs
import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet

from adapters.codec.protobuf import FORMAT
from adapters.codec.protobuf.schema import MOST_LEAVES
from gateway.codec import JsonOptions
from gateway.errors import CallerError
from gateway.plan import plan
from gateway.schema import Schemas
from tests.system.process import ROOT

KNOWN = {"Scalars": "Scalar", "Wrapped": "Wrapper", "WellKnown": "Known", "Held": "Holder", "One": "Choice", "Update": "Book"}


@functools.cache
def methods():
    return plan(ROOT / "tests/system/described/gateway.yaml", {"POLYGATE_VAR": "var"}).config.contracts.methods


def kind(method, options=None):
    found = methods()[f"every.v1.Echo/{method}"].request
    return found if options is None else found.under(options)


def validator(of, *, sent, **more):
    schemas = Schemas()
    schema = of.schema(schemas, sent=sent, **more)
    return jsonschema_rs.validator_for(schemas.told({"allOf": [schema]}), validate_formats=True)


def takes(of, value):
    try:
        of.check(value)
    except CallerError:
        return False
    return True


OTHERWISE = JsonOptions(defaults=True, enum_numbers=True, proto_names=True)
FLOAT_MAX = 3.4028234663852886e38
NUMBERS = [0, -1, 1.0, 1.5, 2**31, 2**32, 2**63, 2**64, -(2**31), "0", "-1", "1.0", "007", "1_0", "", "x", True, None, [], {}]
CASES = [
    *[("Scalars", {name: value}) for name in ("anInt32", "anUint32", "aFixed32") for value in NUMBERS],
    *[("Scalars", {name: value}) for name in ("anInt64", "anUint64", "aSfixed64") for value in NUMBERS if value != 2**64],
    *[
        ("Scalars", {"aFloat": value})
        for value in (0, 1.5, "NaN", "-Infinity", "nan", 3.4028234663852886e38, 1e39, "1e3", ".5", "x", None)
    ],
    *[("Scalars", {"aDouble": value}) for value in (0, 1e300, "Infinity", "1.5", "x", [], None)],
    *[("Scalars", {"aBool": value}) for value in (True, False, None, "true", 1, [])],
    *[("Scalars", {"aString": value}) for value in ("", "x", None, 1, [], {})],
    *[("Scalars", {"someBytes": value}) for value in ("", "AA==", "AA", "-_8", "+/8=", "A", "====", "%", 1, None)],
    *[("Scalars", {"color": value}) for value in ("RED", "red", 5, 77, "5", -1, 2**31, 1.5, None, [], True)],
    *[("Scalars", {"several": value}) for value in ([], [1, "2"], [None], None, {}, "x", ["x"])],
    *[("Scalars", {"colors": value}) for value in (["RED", 5], [None], ["BLUE"])],
    *[("Scalars", value) for value in ({}, {"unknown": 1}, {"maybe": None}, [], "x", None, 1)],
    *[("Wrapped", {name: None}) for name in ("aDouble", "anInt64", "aBool", "aString", "words")],
    *[("Wrapped", {"anInt64": value}) for value in (1, "1", {"value": 1}, [], "x")],
    *[("Wrapped", {"words": value}) for value in (["a"], [None], "a")],
    *[("WellKnown", {"at": value}) for value in ("2000-01-01T00:00:00Z", "2000-01-01T00:00:00+01:00", "2000-01-01", 1, None)],
    *[("WellKnown", {"lasting": value}) for value in ("1s", "-1.5s", "1.0000000001s", "1", 1, None)],
    *[("WellKnown", {"mask": value}) for value in ("", "a.b,cD", "a_b", 1, None)],
    *[("WellKnown", {"struct": value}) for value in ({}, {"a": [None, 1.5]}, [], "x", None)],
    *[("WellKnown", {"value": value}) for value in ({}, [], "x", 1, None, True)],
    *[("WellKnown", {"list": value}) for value in ([], [[None]], {}, "x", None)],
    *[("WellKnown", {"nothing": value}) for value in ({}, {"a": 1}, None, [])],
    *[("WellKnown", {"null": value}) for value in (None, "NULL_VALUE", 0)],
    *[("WellKnown", {"any": value}) for value in ({}, {"a": 1}, {"@type": "x/unknown.Type"}, None)],
    ("WellKnown", {"any": {"@type": "type.googleapis.com/every.v1.Leaf", "text": "x"}}),
    ("WellKnown", {"any": {"@type": "type.googleapis.com/every.v1.Leaf", "txt": "x"}}),
    ("WellKnown", {"any": {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1s"}}),
    ("WellKnown", {"any": {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1"}}),
    *[("Held", {"byName": value}) for value in ({"a": 1, "b": "2"}, {"a": None}, [], None, {"a": "x"})],
    *[("Held", {"byNumber": value}) for value in ({"-1": "x"}, {"x": "x"}, {"1.5": "x"})],
    *[("Held", {"byTruth": value}) for value in ({"true": {}}, {"yes": {}})],
    *[("Held", {"leaves": value}) for value in ([{"text": "x"}], [{}], [{"text": ""}], [None])],
    ("Held", {"tree": {"left": {"right": {"name": "x"}}}}),
    ("Held", {"tree": {"left": {"right": {"nam": "x"}}}}),
    *[("One", {"color": value}) for value in ("RED", "COLOR_UNSPECIFIED", 0, 5, "0", "00", None)],
    *[
        ("One", {"color": "RED", **value})
        for value in ({"text": "a", "number": 1}, {"text": "a", "number": None}, {"none": None})
    ],
    ("One", {"color": "RED", "none": None, "text": "a"}),
    ("One", {}),
]


@pytest.mark.parametrize(("method", "value"), CASES, ids=lambda value: json.dumps(value)[:60])
def test_what_fits_the_schema_is_taken_and_what_does_not_is_refused(method, value):
    of = kind(method)
    assert takes(of, value) is validator(of, sent=False).is_valid(value)


@pytest.mark.parametrize(("method", "value"), CASES, ids=lambda value: json.dumps(value)[:60])
@pytest.mark.parametrize(
    "options", [None, JsonOptions(defaults=True, enum_numbers=True, proto_names=True)], ids=["", "otherwise"]
)
def test_what_is_sent_fits_the_schema(method, value, options):
    if not takes(kind(method), value):
        return
    of = kind(method, options)
    validator(of, sent=True).validate(of.check(value))


def test_a_lenient_type_takes_what_it_does_not_know():
    of = kind("Scalars", JsonOptions(unknown="ignore"))
    for value in ({"unknown": 1}, {"color": "BLUE"}, {"colors": ["BLUE"]}):
        assert takes(of, value)
        assert validator(of, sent=False).is_valid(value)


def test_a_field_by_itself_has_its_own_schema():
    of = kind("Update")
    author = validator(of, sent=False, field="author")
    assert author.is_valid({"firstName": "x"})
    assert not author.is_valid({"author": {}})
    with pytest.raises(ValueError, match=r"every\.v1\.Book has no field nobody"):
        of.schema(Schemas(), sent=False, field="nobody")


def test_what_the_path_gives_is_in_no_body_and_neither_are_its_rivals():
    one = validator(kind("One"), sent=False, without=("text",))
    assert one.is_valid({"color": "RED", "name": "x"})
    assert not one.is_valid({"color": "RED", "text": "x"})
    assert not one.is_valid({"color": "RED", "number": 1})
    nested = validator(kind("Update"), sent=False, without=("author.first_name",))
    assert nested.is_valid({"author": {"titles": []}})
    assert not nested.is_valid({"author": {"firstName": "x"}})


def test_leaves_are_what_path_and_query_can_say():
    leaves = {leaf.path: leaf for leaf in kind("Update").leaves(Schemas())}
    assert {"name", "author.firstName", "author.titles", "author.born", "updateMask", "shelf", "pages"} == set(leaves)
    assert "author.first_name" == leaves["author.firstName"].names
    assert {"type": "array", "items": {"type": "string"}} == leaves["author.titles"].schema
    assert {"name", "color"} == {leaf.path for leaf in kind("One").leaves(Schemas(), ("text",))}
    # A type inside itself ends where it begins anew.
    assert {"tree.name"} == {leaf.path for leaf in kind("Held").leaves(Schemas())}


def test_what_the_source_says_is_told():
    schemas = Schemas({"every.v1.Scalar": "Every scalar.", "every.v1.Scalar.an_int32": "A number."})
    told = schemas.told(kind("Scalars").schema(schemas, sent=True))["components"]["schemas"]["every.v1.Scalar"]
    assert ("Every scalar.", "A number.") == (told["description"], told["properties"]["anInt32"]["description"])


def test_of_types_that_lead_to_a_great_many_fields_only_the_first_levels_are_leaves():
    file = FileDescriptorProto(name="wide.proto", package="wide", syntax="proto3")
    for number in range(60):
        message = file.message_type.add(name=f"T{number}")
        message.field.add(name="name", number=1, type=FieldDescriptorProto.TYPE_STRING, label=1)
        for at, name in enumerate(("left", "right"), 2):
            kind = f".wide.T{(number * at + 1) % 60}"
            message.field.add(name=name, number=at, type=FieldDescriptorProto.TYPE_MESSAGE, label=1, type_name=kind)
    file.service.add(name="S").method.add(name="M", input_type=".wide.T0", output_type=".wide.T0")
    wide = FORMAT.contracts([FileDescriptorSet(file=[file]).SerializeToString()]).methods["wide.S/M"].request
    paths = [leaf.path for leaf in wide.leaves(Schemas())]
    assert {"name", "left.name", "right.name", "left.right.name"} <= set(paths)
    assert MOST_LEAVES > len(paths)

"""The spec's section "JSON mapping", line by line, through a running gateway: JSON in, the backend's binary, JSON out."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from google.protobuf.message_factory import GetMessageClass

from adapters.codec.protobuf import FORMAT
from tests.spec.contract import descriptor_set
from tests.spec.library import ECHO, EDIT, Library, library, route

ROUTES = "".join(
    (
        route('"POST /plain"'),
        route('"POST /defaults"', json="{defaults: true}"),
        route('"POST /lenient"', json="{unknown: ignore}"),
        route('"POST /numbers"', json="{enums: number}"),
        route('"POST /names"', json="{names: proto}"),
        route('"POST /edit"', method=EDIT),
    )
)
Leaves = GetMessageClass(FORMAT.contracts([descriptor_set()]).methods[ECHO].request.descriptor)


@pytest.fixture(scope="module")
def shelves(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    with library(ROUTES, tmp_path_factory.mktemp("library")) as running:
        yield running


def same(shelves: Library, body: str, path: str = "/plain") -> str:
    """What comes back of JSON text."""
    answer = shelves.ask("POST", path, body.encode())
    assert 200 == answer.status, answer.body
    return answer.body.decode()


@pytest.mark.parametrize(
    ("body", "back"),
    [
        ('{"anInt64": 9223372036854775807}', '{"anInt64":"9223372036854775807"}'),
        ('{"anInt64": "-9223372036854775808"}', '{"anInt64":"-9223372036854775808"}'),
        ('{"aUint64": 18446744073709551615}', '{"aUint64":"18446744073709551615"}'),
        ('{"aFixed64": "9007199254740993"}', '{"aFixed64":"9007199254740993"}'),
        ('{"anSint64": 9007199254740993}', '{"anSint64":"9007199254740993"}'),
        ('{"int64Value": 9007199254740993}', '{"int64Value":"9007199254740993"}'),
        ('{"anInt32": "7"}', '{"anInt32":7}'),
    ],
)
def test_integers_of_64_bits_are_strings_out_and_exact_numbers_or_strings_in(shelves, body, back):
    assert back == same(shelves, body)


@pytest.mark.parametrize(
    ("body", "back"),
    [
        ('{"colour": "RED"}', '{"colour":"RED"}'),
        ('{"colour": 2}', '{"colour":"GREEN"}'),
        ('{"colour": 7}', '{"colour":7}'),
        ('{"colours": ["RED", 2, 7]}', '{"colours":["RED","GREEN",7]}'),
    ],
)
def test_enums_are_names_and_unknown_numbers_are_kept(shelves, body, back):
    assert back == same(shelves, body)


@pytest.mark.parametrize(
    "body",
    [
        '{"boolValue":false}',
        '{"int32Value":0}',
        '{"int64Value":"0"}',
        '{"stringValue":""}',
        '{"bytesValue":"YQ=="}',
        '{"doubleValue":"NaN"}',
        '{"struct":{"a":[1.0,null,{"b":true}]}}',
        '{"value":"x"}',
        '{"value":null}',
        '{"list":[1.0,"x",null,[],{}]}',
        '{"any":{"@type":"type.googleapis.com/library.v1.Author","name":"n"}}',
        '{"any":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"3s"}}',
        '{"time":"2026-01-02T03:04:05.006Z"}',
        '{"time":"0001-01-01T00:00:00Z"}',
        '{"time":"9999-12-31T23:59:59.999999999Z"}',
        '{"span":"1.500s"}',
        '{"span":"-0.000000001s"}',
        '{"mask":"a,b.cD"}',
        '{"empty":{}}',
    ],
)
def test_the_well_known_types_have_their_own_forms(shelves, body):
    assert body == same(shelves, body)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ('{"boolValue": 1}', "/boolValue"),
        ('{"time": "yesterday"}', "/time"),
        ('{"span": "1m"}', "/span"),
        ('{"mask": "a_b"}', "/mask"),
        ('{"struct": 1}', "/struct"),
        ('{"list": {}}', "/list"),
        ('{"any": {"name": "n"}}', "/any"),
        ('{"any": {"@type": "type.googleapis.com/no.such.Type"}}', "/any"),
        ('{"empty": {"a": 1}}', "/empty/a"),
        ('{"inner": {"inner": {"anInt32": "x"}}}', "/inner/inner/anInt32"),
        ('{"many": [{}, {"aBool": "true"}]}', "/many/1/aBool"),
        ('{"aBool": 1}', "/aBool"),
        ('{"aString": 1}', "/aString"),
        ('{"anInt32": 1.5}', "/anInt32"),
        ('{"anInt32": 2147483648}', "/anInt32"),
        ('{"aUint32": -1}', "/aUint32"),
        ('{"colour": "BLUE"}', "/colour"),
        ('{"someBytes": "*"}', "/someBytes"),
        ('{"left": "x", "right": 1}', "/right"),
    ],
)
def test_what_is_not_of_its_type_is_refused_with_the_fields_path(shelves, body, pointer):
    assert [pointer] == shelves.refused("POST", "/plain", body.encode())


@pytest.mark.parametrize(
    ("body", "back"),
    [
        ('{"someBytes": "-_-_"}', '{"someBytes":"+/+/"}'),
        ('{"someBytes": "YQ"}', '{"someBytes":"YQ=="}'),
        ('{"aDouble": "NaN"}', '{"aDouble":"NaN"}'),
        ('{"aDouble": "Infinity"}', '{"aDouble":"Infinity"}'),
        ('{"aFloat": "-Infinity"}', '{"aFloat":"-Infinity"}'),
        ('{"aDouble": "1.5"}', '{"aDouble":1.5}'),
        ('{"anInt32": 1e2}', '{"anInt32":100}'),
        ('{"anInt32": 1.0}', '{"anInt32":1}'),
        ('{"a_string": "x", "an_int32": 1}', '{"aString":"x","anInt32":1}'),
        ('{"otherName": "x"}', '{"otherName":"x"}'),
        ('{"renamed": "x"}', '{"otherName":"x"}'),
        ('{"aString": "\\u00e9\\ud83d\\ude00"}', '{"aString":"\u00e9\U0001f600"}'),
    ],
)
def test_bytes_floats_and_names_are_canonical_out_and_taken_in_every_form(shelves, body, back):
    assert back == same(shelves, body)


@pytest.mark.parametrize(
    "body",
    [
        '{"aString": null}',
        '{"anInt32": null}',
        '{"inner": null}',
        '{"strings": null}',
        '{"labels": null}',
        '{"time": null}',
        '{"left": null, "right": null}',
    ],
)
def test_null_is_an_unset_field(shelves, body):
    assert "{}" == same(shelves, body)
    assert b"" == shelves.last


@pytest.mark.parametrize(
    ("body", "pointer"),
    [('{"strings": ["a", null]}', "/strings/1"), ('{"many": [null]}', "/many/0"), ('{"labels": {"a": null}}', "/labels/a")],
)
def test_null_inside_a_repeated_field_is_refused(shelves, body, pointer):
    assert [pointer] == shelves.refused("POST", "/plain", body.encode())


def test_defaults_are_omitted_or_written_by_the_routes_choice(shelves):
    assert '{"maybe":""}' == same(shelves, '{"aString": "", "anInt32": 0, "strings": [], "maybe": ""}')
    told = json.loads(same(shelves, '{"inner": {}}', "/defaults"))
    assert ("", False, 0, "0", 0.0, "", "COLOUR_UNSPECIFIED", [], {}) == tuple(
        told[name] for name in ("aString", "aBool", "anInt32", "anInt64", "aDouble", "someBytes", "colour", "strings", "labels")
    )
    assert "" == told["inner"]["aString"]
    # What has presence is not there where it is not set.
    assert not {"maybe", "time", "boolValue", "left", "right"} & told.keys()


def test_enums_are_numbers_and_names_those_of_the_proto_by_the_routes_choice(shelves):
    assert '{"colour":1,"colours":[2]}' == same(shelves, '{"colour": "RED", "colours": ["GREEN"]}', "/numbers")
    assert '{"a_string":"x","an_int64":"1","renamed":"y"}' == same(
        shelves, '{"aString": "x", "renamed": "y", "anInt64": 1}', "/names"
    )


def test_unknown_fields_are_rejected_or_ignored_by_the_routes_choice(shelves):
    assert ["/nothing"] == shelves.refused("POST", "/plain", {"nothing": 1})
    assert ["/inner/nothing"] == shelves.refused("POST", "/plain", {"inner": {"nothing": 1}})
    assert '{"aString":"x","inner":{}}' == same(
        shelves, '{"aString": "x", "nothing": {"a": [1]}, "inner": {"nothing": 1}}', "/lenient"
    )


@pytest.mark.parametrize(
    "body",
    [
        '{"inner":' * 101 + "{}" + "}" * 101,
        '{"struct":' + '{"a":' * 400 + "1" + "}" * 400 + "}",
        '{"list":' + "[" * 400 + "]" * 400 + "}",
        '{"nothing":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"any":{"@type":"type.googleapis.com/google.protobuf.Struct","value":' + '{"a":' * 400 + "1" + "}" * 400 + "}}",
    ],
)
def test_nesting_over_100_is_refused(shelves, body):
    shelves.refused("POST", "/plain", body.encode())
    shelves.refused("POST", "/lenient", body.encode())


def test_nesting_of_100_is_taken(shelves):
    body = '{"inner":' * 99 + "{}" + "}" * 99
    assert body == same(shelves, body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"aString": "\xff"}',
        b'{"aString": "\xed\xa0\x80"}',
        b'{"aString": "\\ud800"}',
        b'{"aString": "\\udc00\\ud800"}',
        b'{"\\ud800": 1}',
        b"\xef\xbb\xbf{}",
    ],
)
def test_what_is_not_utf8_and_lone_surrogates_are_refused(shelves, body):
    shelves.refused("POST", "/plain", body)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"{}x",
        b"NaN",
        b'{"aDouble": NaN}',
        b'{"aDouble": 1e999}',
        b'{"anInt64": 99999999999999999999}',
        b'{"aString": "x", "aString": "y"}',
        b'{"aString": "x", "a_string": "y"}',
        b"{'aString': 1}",
    ],
)
def test_what_is_no_strict_json_is_refused(shelves, body):
    shelves.refused("POST", "/plain", body)


@pytest.mark.parametrize(
    ("body", "present"),
    [
        ('{"maybe": ""}', ["maybe"]),
        ('{"left": ""}', ["left"]),
        ('{"right": 0}', ["right"]),
        ('{"inner": {}}', ["inner"]),
        ('{"deep": {}}', ["deep"]),
        ('{"boolValue": false}', ["bool_value"]),
        ('{"time": "1970-01-01T00:00:00Z"}', ["time"]),
        ('{"aString": "", "aBool": false}', []),
    ],
)
def test_presence_is_respected(shelves, body, present):
    same(shelves, body)
    assert present == [field.name for field, _ in Leaves.FromString(shelves.last).ListFields()]

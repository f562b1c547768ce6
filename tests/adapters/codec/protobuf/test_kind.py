"""A compiled message type: presence, oneofs, maps, groups, names, options, and the very field in each refusal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_tools import protoc

from adapters.codec.protobuf import MessageType, Pool
from gateway.codec import JsonOptions
from gateway.errors import CallerError
from gateway.jsontext import loads

PROTO3 = """
syntax = "proto3";
package k;
import "google/api/field_behavior.proto";
import "google/protobuf/any.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
enum Hue { option allow_alias = true; NONE = 0; RED = 1; ROUGE = 1; GREEN = 2; }
message All {
  int32 an_int = 1;
  optional int32 maybe = 2;
  string text = 3;
  double number = 4;
  Hue hue = 5;
  All inner = 6;
  repeated All many = 7;
  oneof either { string left = 8; int64 right = 9; google.protobuf.NullValue nothing = 10; }
  map<int32, All> by_number = 11;
  map<bool, string> by_flag = 12;
  repeated Hue hues = 13;
  map<string, Hue> hue_of = 14;
  google.protobuf.Any any = 15;
  google.protobuf.Value value = 16;
  google.protobuf.Int64Value wrapped = 17;
  google.protobuf.Timestamp time = 18;
  bytes data = 19;
  int64 large = 20;
  float small = 21;
  repeated google.protobuf.Value values = 22;
  uint64 HasField = 23;
  string from = 24;
  bool DESCRIPTOR = 25;
  string weird = 26 [json_name = "we{i}'r\\"d"];
}
message Empty {}
message Order {
  string sku = 1 [(google.api.field_behavior) = REQUIRED];
  int32 quantity = 2 [(google.api.field_behavior) = REQUIRED];
  repeated Line lines = 3;
  repeated string tags = 4 [(google.api.field_behavior) = REQUIRED];
}
message Line { string line_id = 1 [(google.api.field_behavior) = REQUIRED]; }
"""
PROTO2 = """
syntax = "proto2";
package k2;
enum Closed { ONE = 1; TWO = 2; }
message Old {
  required int32 id = 1;
  optional string text = 2 [default = "x"];
  optional group Part = 3 { optional int32 inside = 1; }
  repeated int32 loose = 4;
  optional Closed closed = 5;
  repeated group Bit = 6 { required int32 on = 1; }
  extensions 100 to 200;
}
extend Old { optional int32 more = 100; }
"""


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("protos")
    (folder / "three.proto").write_text(PROTO3)
    (folder / "two.proto").write_text(PROTO2)
    google = Path(protoc.__file__).parent / "_proto"
    annotations = Path(__import__("google.api", fromlist=["api"]).__path__[0]).parents[1]
    out = folder / "set.binpb"
    includes = [f"-I{folder}", f"-I{google}", f"-I{annotations}"]
    assert not protoc.main(["", *includes, "--include_imports", f"-o{out}", "three.proto", "two.proto"])
    descriptors = DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file:
        descriptors.Add(file)
    pool = Pool(descriptors)
    return lambda name, **options: MessageType(descriptors.FindMessageTypeByName(name), pool, JsonOptions(**options))


@pytest.fixture
def whole(kinds):
    return kinds("k.All")


def wrong(kind, text):
    """The pointer and the reason that a JSON text is refused for, the same by both ways."""
    body = text.encode() if isinstance(text, str) else json.dumps(text).encode()
    with pytest.raises(CallerError) as caught:
        kind.pack_json(body)
    (detail,) = caught.value.details
    return detail.pointer, detail.detail


def around(kind, text):
    """The JSON of a JSON text, by way of the wire."""
    return json.loads(kind.unpack_json(kind.pack_json(text.encode() if isinstance(text, str) else json.dumps(text).encode())))


def test_a_default_is_left_out_unless_the_field_has_presence(whole):
    assert {} == around(whole, {"anInt": 0, "text": "", "hue": "NONE", "many": [], "byNumber": {}, "number": 0, "data": ""})
    assert {"maybe": 0, "left": "", "inner": {}} == around(whole, {"maybe": 0, "left": "", "inner": {}})


def test_minus_zero_is_no_default(whole):
    assert '{"number":-0.0,"small":-0.0}' == whole.unpack_json(whole.pack_json(b'{"number":-0.0,"small":-0.0}')).decode()


def test_null_is_a_field_unset_and_a_value_s_own_null(whole):
    nulls = dict.fromkeys(["anInt", "maybe", "text", "hue", "inner", "many", "byNumber", "any", "wrapped", "time", "left"])
    assert {"value": None, "nothing": None} == around(whole, nulls | {"value": None, "nothing": None})


def test_null_is_no_element(whole):
    assert [None, 1] == around(whole, {"values": [None, 1]})["values"]
    assert ("/many/1", "is not an object") == wrong(whole, {"many": [{}, None]})
    assert "/hues/0" == wrong(whole, {"hues": [None]})[0]
    assert "/byFlag/true" == wrong(whole, {"byFlag": {"true": None}})[0]


def test_both_names_are_read_and_the_json_name_is_written(whole):
    assert {"anInt": 1, "byFlag": {"true": "a"}} == around(whole, {"an_int": 1, "by_flag": {"true": "a"}})


def test_the_same_field_by_both_names_is_refused_at_the_second(whole):
    assert ("/an_int", "is given by both of its names") == wrong(whole, '{"anInt":1,"an_int":1}')
    assert ("/inner/anInt", "is given by both of its names") == wrong(whole, '{"inner":{"an_int":null,"anInt":1}}')


def test_a_name_that_stands_twice_is_refused_wherever_it_stands(whole):
    reason = "stands twice in one object"
    assert ("/text", reason) == wrong(whole, '{"text":"a","text":"a"}')
    assert ("/many/1/text", reason) == wrong(whole, '{"many":[{},{"text":"a","text":"b"}]}')
    assert ("/byNumber/1/text", reason) == wrong(whole, '{"byNumber":{"1":{"text":"a","text":"b"}}}')
    assert ("/value/a/b", reason) == wrong(whole, '{"value":{"a":{"b":1,"b":1}}}')
    assert ("/hueOf/a", reason) == wrong(whole, '{"hueOf":{"a":"RED","a":"RED"}}')


def test_keys_of_a_map_that_are_one_key_are_refused(whole):
    assert ("/byNumber/01", "is a key that stands twice") == wrong(whole, '{"byNumber":{"1":{},"01":{}}}')


@pytest.mark.parametrize("key", ["", "x", "1.5", "2147483648", " 1"])
def test_the_key_of_a_map_is_of_its_type(whole, key):
    assert f"/byNumber/{key}" == wrong(whole, {"byNumber": {key: {}}})[0]
    assert f"/byFlag/{key}" == wrong(whole, {"byFlag": {key: "a"}})[0]


def test_two_members_of_a_oneof_are_refused_at_the_second(whole):
    assert ("/right", "stands beside left, and there may be one of them") == wrong(whole, {"left": "a", "right": 1})
    assert {"right": "1"} == around(whole, {"left": None, "right": 1})


def test_the_very_field_is_named_as_the_caller_wrote_it(whole):
    assert "/inner/many/1/by_number/7/an_int" == wrong(whole, {"inner": {"many": [{}, {"by_number": {"7": {"an_int": "x"}}}]}})[0]


def test_an_unknown_field_is_refused_or_left_out_as_the_route_says(kinds, whole):
    assert ("/inner/nonsense", "is no field") == wrong(whole, {"inner": {"nonsense": 1}})
    lenient = kinds("k.All", unknown="ignore")
    assert {"text": "a", "inner": {}} == around(lenient, {"text": "a", "inner": {"nonsense": {"deep": [1, {}]}}, "other": None})


def test_what_is_left_out_is_json_all_the_same(kinds):
    lenient = kinds("k.All", unknown="ignore")
    assert "/nonsense" == wrong(lenient, '{"nonsense":1e999}')[0]
    assert "/nonsense" == wrong(lenient, f'{{"nonsense":[{2**64}]}}')[0]
    assert "/nonsense/a" == wrong(lenient, '{"nonsense":{"a":1,"a":1}}')[0]
    assert "/nonsense" == wrong(lenient, '{"nonsense":"\\ud800"}')[0]
    assert ("", "is nested deeper than 100") == wrong(lenient, '{"nonsense":' + "[" * 100 + "]" * 100 + "}")


def test_enum_values_that_are_unknown_are_kept_by_number_and_refused_by_name(kinds, whole):
    assert {"hue": 7, "hues": ["RED", "RED", 9, -1]} == around(whole, {"hue": 7, "hues": ["RED", "ROUGE", 9, -1]})
    assert ("/hueOf/a", "is no value of its enum") == wrong(whole, {"hueOf": {"a": "PINK"}})
    lenient = kinds("k.All", unknown="ignore")
    assert {"hues": ["RED"], "hueOf": {"b": "GREEN"}} == around(
        lenient, {"hue": "PINK", "hues": ["PINK", "RED"], "hueOf": {"a": "PINK", "b": "GREEN"}}
    )


def test_a_closed_enum_takes_its_own_numbers_alone(kinds):
    old = kinds("k2.Old")
    assert {"id": 1, "closed": "TWO"} == around(old, {"id": 1, "closed": 2})
    assert ("/closed", "is no value of its enum") == wrong(old, {"id": 1, "closed": 3})


def test_options_say_how_json_is_written_and_never_how_it_is_read(kinds, whole):
    body = whole.pack_json(b'{"anInt":1,"hue":"RED","byNumber":{"1":{}}}')
    assert {"an_int": 1, "hue": "RED", "by_number": {"1": {}}} == json.loads(kinds("k.All", proto_names=True).unpack_json(body))
    assert {"anInt": 1, "hue": 1, "byNumber": {"1": {}}} == json.loads(kinds("k.All", enum_numbers=True).unpack_json(body))
    shown = json.loads(kinds("k.All", defaults=True).unpack_json(b""))
    assert {
        "anInt": 0,
        "text": "",
        "number": 0.0,
        "hue": "NONE",
        "many": [],
        "byNumber": {},
        "large": "0",
    }.items() <= shown.items()
    assert not {"maybe", "inner", "left", "any", "value"} & shown.keys()
    assert body == kinds("k.All", proto_names=True, enum_numbers=True).pack_json(b'{"anInt":1,"hue":"RED","byNumber":{"1":{}}}')


def test_the_same_type_under_other_options_is_had_from_it(whole):
    assert whole is whole.under(JsonOptions())
    assert b'{"an_int":1}' == whole.under(JsonOptions(proto_names=True)).unpack_json(b"\x08\x01")


def test_a_large_integer_is_exact_however_it_is_written(whole):
    for text in ("9007199254740993", '"9007199254740993"', "9007199254740993.0", "9.007199254740993e15"):
        assert {"large": "9007199254740993"} == around(whole, f'{{"large":{text}}}')
        assert {"large": "9007199254740993"} == whole.check(loads(f'{{"large":{text}}}'.encode()))
    assert ("/large", "is beyond the range of a signed integer of 64 bits") == wrong(whole, '{"large":9223372036854775808}')
    assert ("/number", "is an integer beyond 64 bits") == wrong(whole, '{"number":18446744073709551616}')
    assert ("/value", "is an integer beyond 64 bits") == wrong(whole, '{"value":18446744073709551616}')
    assert ("/large", "is not a whole number") == wrong(whole, '{"large":9007199254740993.5}')


def test_names_that_python_or_the_runtime_use_are_names_like_any_other(whole):
    value = {"HasField": "7", "from": "a", "DESCRIPTOR": True, "we{i}'r\"d": "b"}
    assert value == around(whole, value)
    assert value == whole.unpack(whole.pack(value)) == whole.check(value)


def test_an_any_is_read_by_the_contract_s_own_types(whole):
    value = {"any": {"@type": "type.googleapis.com/k.All", "anInt": 1}}
    assert value == around(whole, value)
    nested = {
        "any": {
            "@type": "x/google.protobuf.Any",
            "value": {"@type": "x/google.protobuf.Timestamp", "value": "1970-01-01T00:00:00Z"},
        }
    }
    assert nested == around(whole, nested)
    assert {"any": {}} == around(whole, {"any": {}})
    assert ("/any/anInt", "is not a whole number") == wrong(whole, {"any": {"anInt": "x", "@type": "a/k.All"}})
    assert "/any" == wrong(whole, {"any": {"@type": "a/no.Such"}})[0]
    assert ("/any", "has no @type") == wrong(whole, {"any": {"anInt": 1}})
    assert "/any" == wrong(whole, {"any": {"@type": "a/google.protobuf.Value", "other": 1}})[0]


def test_what_an_any_holds_is_no_deeper_than_can_be_read_again(whole):
    def holding(depth):
        value = 1
        for _ in range(depth):
            value = [value]
        return {"any": {"@type": "a/google.protobuf.Value", "value": value}}

    assert holding(40) == around(whole, holding(40))
    assert ("/any/value", "is nested deeper than 100") == wrong(whole, holding(60))


@pytest.mark.parametrize("depth", [400, 3000])
def test_any_in_any_is_refused_on_the_wire_and_never_a_crash(whole, depth):
    url = b"a/google.protobuf.Any"
    body = b""
    for _ in range(depth):
        packed = GetMessageClass(whole.descriptor.fields_by_name["any"].message_type)(type_url=url.decode(), value=body)
        body = packed.SerializeToString()
    with pytest.raises(CallerError, match="nested"):
        whole.unpack_json(GetMessageClass(whole.descriptor)(any={"type_url": url.decode(), "value": body}).SerializeToString())


def test_extensions_are_refused_in_json_and_unknown_fields_of_the_wire_break_nothing(kinds, whole):
    old = kinds("k2.Old")
    assert ("/[k2.more]", "is an extension, and none is taken") == wrong(old, '{"id":1,"[k2.more]":1}')
    assert ("/[k2.more]", "is an extension, and none is taken") == wrong(
        kinds("k2.Old", unknown="ignore"), '{"id":1,"[k2.more]":1}'
    )
    assert b'{"id":1}' == old.unpack_json(b"\x08\x01\xa0\x06\x05\xf8\x7f\x01")
    assert b'{"anInt":1}' == whole.unpack_json(b"\x08\x01\xfa\x3e\x03abc")


def test_groups_are_objects_under_their_field_s_name(kinds):
    old = kinds("k2.Old")
    value = {"id": 1, "part": {"inside": 2}, "loose": [1, 2, 300], "bit": [{"on": 1}, {"on": 0}]}
    assert value == around(old, value)
    assert b"\x08\x01\x1b\x08\x02\x1c" == old.pack_json(b'{"id":1,"part":{"inside":2}}')


def test_a_required_field_of_proto2_is_required_both_ways(kinds):
    old = kinds("k2.Old")
    assert ("/id", "is required") == wrong(old, {"text": "a"})
    assert ("/bit/1/on", "is required") == wrong(old, {"id": 1, "bit": [{"on": 1}, {}]})
    with pytest.raises(CallerError, match=r"^bit\.0\.on is required$"):
        old.unpack_json(b"\x08\x01\x33\x34")


def test_a_required_field_is_there_and_not_its_default(kinds):
    order = kinds("k.Order")
    full = {"sku": "tea", "quantity": 1, "lines": [{"lineId": "a"}], "tags": ["x"]}
    assert full == around(order, full)
    for name, least in (("sku", ""), ("quantity", 0), ("tags", [])):
        for value in (full | {name: least}, {key: part for key, part in full.items() if key != name}):
            assert (f"/{name}", "is required") == wrong(order, value)
    assert ("/lines/1/lineId", "is required") == wrong(order, full | {"lines": [{"lineId": "a"}, {}]})
    with pytest.raises(CallerError, match=r"^lines\.0\.lineId is required$"):
        order.unpack(b"\x0a\x01a\x10\x01\x1a\x00\x22\x01x")


def test_a_part_lacks_what_it_may_lack(kinds):
    part = kinds("k.Order").part
    assert {"sku": "tea", "lines": [{}]} == part.unpack(part.pack({"sku": "tea", "lines": [{}]}))


def test_a_type_without_fields_takes_an_empty_object_alone(kinds):
    empty = kinds("k.Empty")
    assert (b"", b"{}") == (empty.pack_json(b" {} "), empty.unpack_json(b""))
    assert "/a" == wrong(empty, {"a": 1})[0]


@pytest.mark.parametrize("text", ["[]", "null", '"a"', "1", "true"])
def test_a_message_is_an_object(whole, text):
    assert ("", "is not an object") == wrong(whole, text)
    assert ("/inner", "is not an object") == wrong(whole, '{"inner":' + (text if text != "null" else "0") + "}")


@pytest.mark.parametrize(
    "text", ['{"text":"\\ud800"}', '{"value":{"a":"\\udc00"}}', '{"hueOf":{"\\ud800":1}}', '{"any":{"@type":"\\ud800"}}']
)
def test_a_lone_surrogate_is_refused(whole, text):
    with pytest.raises(CallerError):
        whole.pack_json(text.encode())


@pytest.mark.parametrize("body", [b'{"text":"\xff"}', b"\xff", b"", b"{", b'{"text":"a"}}', b"\xef\xbb\xbf{}", b'{"number":NaN}'])
def test_what_is_no_json_is_malformed(whole, body):
    with pytest.raises(CallerError, match="acceptable JSON"):
        whole.pack_json(body)


def test_strings_of_proto2_that_are_not_utf_8_have_no_json(kinds):
    with pytest.raises(CallerError, match="not UTF-8"):
        kinds("k2.Old").unpack_json(b"\x08\x01\x12\x01\xff")


def test_fields_may_come_in_any_order_and_go_out_in_that_of_their_numbers(whole):
    assert b"\x08\x01\x1a\x01a" == whole.pack_json(b'{"text":"a","anInt":1}')
    assert b'{"anInt":1,"text":"a"}' == whole.unpack_json(b"\x1a\x01a\x08\x01")


def test_values_and_text_go_the_same_way(whole):
    value = {
        "anInt": 1,
        "many": [{"text": "a"}],
        "byNumber": {"1": {}},
        "value": {"a": [1, None]},
        "time": "1970-01-01T00:00:00Z",
    }
    assert whole.pack_json(json.dumps(value).encode()) == whole.pack(value)
    assert value == whole.unpack(whole.pack(value)) == whole.check(value)


def test_an_object_at_the_top_with_space_around_it_is_taken(whole):
    assert {"anInt": 1} == around(whole, ' \n{"anInt": 1}\t\r\n')


def test_the_default_of_a_null_value_is_null(whole):
    assert whole.pick("nothing")({}) is None
